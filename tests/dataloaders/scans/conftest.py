import pytest

from dataloaders.files import InputError
from dataloaders.scans.files import read_scan


@pytest.fixture
def refused(capfd):
    """refused(path, message): reading this scan ends in one line of ours, and ITK prints nothing."""

    def check(path, message):
        capfd.readouterr()
        with pytest.raises(InputError, match=message) as error:
            read_scan(path)
        assert "\n" not in str(error.value)
        printed = capfd.readouterr()
        assert printed.out == printed.err == ""  # ITK's own output is kept away

    return check
