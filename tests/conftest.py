"""Fixtures of all chapters."""

from pathlib import Path

import pytest

from boxes import Box


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """An edge box with an empty data directory."""
    return Box(tmp_path)
