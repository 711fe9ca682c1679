"""Whether a caption's words name anything that can be seen, or a person alone."""
