"""The content of one file: photographs (RAW included), video frames, and their metadata (EXIF, XMP, IPTC, dates)."""
