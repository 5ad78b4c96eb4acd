"""Recorded results carry their machine, and a missing one is a clear error."""
import pytest

from minilm.bench import record


def test_what_is_written_is_read_back_with_its_machine(tmp_path):
    record.write("sample", {"benchmark": "x", "rows": [1, 2]}, folder=tmp_path)
    back = record.read("sample", folder=tmp_path)
    assert back["rows"] == [1, 2]
    assert back["machine"]["torch"] and back["machine"]["cores"] >= 1 and back["date"]


def test_missing_result_lists_the_recorded_ones(tmp_path):
    record.write("one", {}, folder=tmp_path)
    with pytest.raises(FileNotFoundError, match="no recorded result named 'two'; there are: one"):
        record.read("two", folder=tmp_path)
