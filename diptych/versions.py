"""Versions of the models' inputs. They are stored with vectors, so that a vector made from other pixels or token ids is
recognised as outdated."""

# Increased when a file decodes to other pixels than before; `outdated_kinds` lists the kinds of those files.
READING = 2
# Increased when a text gets other token ids than before with some tokenizer.
TOKENIZING = 2
