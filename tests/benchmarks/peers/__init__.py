"""The other tools, each used as its documentation recommends."""
