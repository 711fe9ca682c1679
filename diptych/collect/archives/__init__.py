"""Pictures with words in archives of the web: WARC files with pages and pictures, WAT files with what pages link to."""
