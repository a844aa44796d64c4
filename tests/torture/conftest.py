"""The option for the long form: `uv run pytest tests/torture --minutes 20`."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Without it the short form runs, as in the whole suite."""
    parser.addoption("--minutes", type=float, default=0.0, help="how long the torture test takes, all in all")
    parser.addoption("--seed", type=int, default=None, help="the seed of its choices; random if not given")


@pytest.fixture
def minutes(request: pytest.FixtureRequest) -> float:
    """How long to go on; 0 for the short form. The option is unknown where the whole suite runs."""
    return float(request.config.getoption("--minutes", default=0.0) or 0.0)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int | None:
    """The seed that was given."""
    given = request.config.getoption("--seed", default=None)
    return None if given is None else int(given)
