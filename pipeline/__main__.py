"""`python -m pipeline VERB ...`, the same as `thalweg VERB ...`."""

from pipeline.cli import main

if __name__ == "__main__":
    main()
