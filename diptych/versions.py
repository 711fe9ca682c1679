"""Versions of what models are shown. What keeps vectors notes them, so that none that was made of other pixels or other
ids is taken for one of today's."""

# Raised whenever a file that is read gives other pixels than before; `outdated_kinds` tells which files do.
READING = 2
# Raised whenever a text gives other ids than before with some tokenizers.
TOKENIZING = 2
