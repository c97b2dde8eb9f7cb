import pytest

from transmamba_mm.ops import set_scan_backend


@pytest.fixture(autouse=True)
def nothing_forced(monkeypatch):
    """Let each test choose the back end, whatever the user's shell says."""
    monkeypatch.delenv('TRANSMAMBA_SCAN_BACKEND', raising=False)
    before = set_scan_backend(None)
    yield
    set_scan_backend(before)
