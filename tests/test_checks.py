"""What a count may be, and what is said when it isn't one."""
import pytest
from core_helpers import assert_clear_error

from minilm.checks import check_count


@pytest.mark.parametrize(("value", "most", "says"), [
    (1, None, "width must be a whole number of at least 2; it is 1"),
    (True, None, "of at least 2; it is True"),
    (3.0, None, "of at least 2; it is 3.0"),
    ("3", None, "of at least 2; it is '3'"),
    (None, None, "of at least 2; it is None"),
    (1, 9, "width must be a whole number from 2 to 9; it is 1"),
    (10, 9, "width must be a whole number from 2 to 9; it is 10"),
])
def test_what_is_no_count_is_told(value, most, says):
    """Guards a limit that is not told as a number, and True passing for 1."""
    assert_clear_error(lambda: check_count("width", value, 2, most), ValueError, says)


@pytest.mark.parametrize(("value", "most"), [(2, None), (10**30, None), (2, 9), (9, 9)])
def test_the_limits_themselves_pass(value, most):
    check_count("width", value, 2, most)
