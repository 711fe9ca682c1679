"""What a host permits: robots.txt, reservations against training, an honest name, and a pace that it can bear. Nothing
here fetches: the crawl and the lists bring bodies, headers and times."""
