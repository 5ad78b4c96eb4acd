"""A learner's file before it runs: every mistake has its own line."""
import pytest
from capstone_helpers import HONEST, written

from minilm.capstone.entry import Disqualified, read
from minilm.cli import main


@pytest.mark.parametrize("source, role", [
    (HONEST, "decode"), ("def policy(model): ...", "policy"), ("from somewhere import make as proposer", "proposer"),
    ("decode = lambda model, prompt, n: []", "decode"), ("if True:\n    def decode(m, p, n): ...", "decode"),
    ("class decode:\n    def policy(self): ...", "decode"),
])
def test_the_role_is_the_name_that_the_file_defines(tmp_path, source, role):
    """Guards a decoder that is not seen because it was imported or assigned, and methods taken for functions."""
    found = read(written(tmp_path, source, "swift.py"))
    assert (found.role, found.name, found.file) == (role, "swift", "swift.py")


@pytest.mark.parametrize("source, message", [
    ("", "my_decoder.py defines no decoder: write one of decode"),
    ("def decoder(model): ...", "defines no decoder"),
    ("def decode(model:\n    pass", "not Python, line 1"),
    ("x = 1\ndef decode(model, prompt, n)\n    pass", "not Python, line 2"),
    ("decode = 1\0", "is not Python"),
    ("def decode(m, p, n): ...\ndef policy(model): ...", "decode and policy: which of them"),
    ("#" * (1 << 20) + "\n", "larger than 1 MiB"),
])
def test_a_file_without_a_decoder_is_told_what_is_missing(tmp_path, source, message):
    with pytest.raises(Disqualified, match=message):
        read(written(tmp_path, source))


def test_missing_files_bytes_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file .*nowhere.py: --mine takes"):
        read(tmp_path / "nowhere.py")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read(tmp_path)
    (tmp_path / "picture.py").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(Disqualified, match="is not text"):
        read(tmp_path / "picture.py")


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 41, "\x1b[31mred"])
def test_names_that_no_table_can_show(tmp_path, name):
    with pytest.raises(ValueError, match="a name has 1 to 40 characters"):
        read(written(tmp_path, HONEST), name)


@pytest.mark.parametrize("options, message", [
    (["--mine", "nowhere.py"], "there is no file nowhere.py"),
    (["--mine", "FILE", "--quality", "1"], "from 0"), (["--mine", "FILE", "--quality", "-0.1"], "from 0"),
    (["--mine", "FILE", "--quality", "nan"], "from 0"),
    (["--mine", "FILE", "--rounds", "0"], "--rounds"), (["--mine", "FILE", "--max-new-tokens", "3"], "--max-new-to"),
    (["--mine", "FILE", "--device", "cuda"], "on the CPU"), (["--mine", "FILE", "--prompt", "Hi"], "leave --prompt"),
    (["--mine", "FILE", "--name", "autoregressive", "--model", "minilm-1m"], "one of the package's decoders"),
    (["--mine", "FILE", "--only", "snail", "--model", "minilm-1m"], "no contestant named 'snail'"),
    (["--mine", "FILE", "--max-new-tokens", "5000", "--model", "minilm-1m"], "do not fit"),
    (["--name", "ann"], "go with --mine"), (["--seed", "1"], "go with --mine"), (["--quality", "0.1"], "go with"),
])
def test_the_command_line_says_no_in_one_line(tmp_path, capsys, monkeypatch, options, message):
    """All of it before any process starts."""
    monkeypatch.setenv("MINILM_LEADERBOARD", str(tmp_path / "board.json"))
    monkeypatch.setattr("minilm.capstone.contest.Runner", None)
    file = str(written(tmp_path, HONEST))
    assert main(["race", *(file if word == "FILE" else word for word in options)]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and "Traceback" not in said
