"""One verb per stage: files in, files out; its options beside it. Each imports its stage only when it runs."""
