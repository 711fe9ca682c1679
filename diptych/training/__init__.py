"""Training by contrast."""

import diptych.engines as engines  # first, for it must come before torch
