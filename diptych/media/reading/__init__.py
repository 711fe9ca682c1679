"""Files read in processes that may hang or die."""
