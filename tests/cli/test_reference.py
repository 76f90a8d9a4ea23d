"""The generated reference of the configuration is that of the classes, and every shipped file follows it."""

import json
from pathlib import Path

import pytest

from pipeline import config
from pipeline.cli import reference
from pipeline.errors import InputError
from pipeline.evaluate import summary

FOLDER = Path(__file__).parents[2] / "config"
CURE = "config/{} is out of step with pipeline/config: `make reference` fixes it"


def test_files_are_in_step():
    text = (FOLDER / "README.md").read_text()
    assert text == reference.with_table(text), CURE.format("README.md")
    assert (FOLDER / "schema.json").read_text() == reference.schema(), CURE.format("schema.json")
    assert (FOLDER / "summary.schema.json").read_text() == summary.schema(), (
        "config/summary.schema.json is out of step with pipeline/evaluate/summary.py: `make reference` fixes it"
    )


def test_every_key_is_explained():
    rows = {row.key: row for row in reference.rows(config.Config)}
    assert all(row.meaning and row.type for row in rows.values())
    assert rows["data.held_out_fraction"][1:4] == ("number", "`0.5`", ">= 0, < 1")
    assert rows["optimise.optimiser"].allowed == "`adam`, `sgd`"
    assert rows["model.normfactors[].bounds"][1:3] == ("list of 2 numbers", "`[0.0, 10.0]`")
    assert rows["channels.<name>.bandwidth.final"].default == "required"


def test_the_table_has_every_key_of_the_schema():
    schema = json.loads(reference.schema())
    sections = [schema, *schema["$defs"].values()]
    keys = {key for section in sections for key in section.get("properties", {})}
    keys -= {"extends"}  # of the file, not of the run: explained in the text above the table
    assert keys == {row.key.rpartition(".")[2] for row in reference.rows(config.Config)}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_configurations_are_valid(path):
    assert config.load(path).run == path.stem


def test_written_where_asked(tmp_path):
    (tmp_path / "README.md").write_text(f"before\n{reference.BEGIN}\nfrom before\n{reference.END}\nafter\n")
    reference.write(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith(f"before\n{reference.BEGIN}\n\n| key |")
    assert text.endswith(f"\n{reference.END}\nafter\n")
    assert "from before" not in text
    assert json.loads((tmp_path / "schema.json").read_text())["title"] == "Config"
    assert json.loads((tmp_path / "summary.schema.json").read_text())["title"] == "Summary"


def test_no_place_to_write(tmp_path):
    with pytest.raises(InputError, match=r"README\.md cannot be read: No such file"):
        reference.write(tmp_path)
    (tmp_path / "README.md").write_text("nothing\n")
    with pytest.raises(InputError, match=r"README\.md has no place for the key table"):
        reference.write(tmp_path)
    assert not (tmp_path / "schema.json").exists()
