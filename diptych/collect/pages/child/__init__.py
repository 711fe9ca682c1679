"""The process in which Scrapy runs, and where its pairs go."""
