"""What strangers hand over: JSON, files, links and downloads, each read under limits."""
