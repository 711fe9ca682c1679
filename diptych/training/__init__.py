"""Training by contrast."""

import diptych.engines  # noqa: F401 (first: it must be imported before torch)
