"""Scrapy with what it recommends for broad crawls (https://docs.scrapy.org/en/latest/topics/broad-crawls.html), and
the feed parser of the other loops. Its items go to a JSON Lines file, its own way to store them."""

import os

import fastfeedparser
import fetching
import scrapy
from scrapy.crawler import CrawlerProcess

options = fetching.options()
found = {"feeds": 0, "stories": 0}

SETTINGS = {
    "CONCURRENT_REQUESTS": options["at_once"],
    "CONCURRENT_REQUESTS_PER_DOMAIN": options["at_once"],
    "DOWNLOAD_DELAY": 0,
    "SCHEDULER_PRIORITY_QUEUE": "scrapy.pqueues.DownloaderAwarePriorityQueue",
    "REACTOR_THREADPOOL_MAXSIZE": 20,
    "LOG_ENABLED": False,
    "COOKIES_ENABLED": False,
    "RETRY_ENABLED": False,
    "REDIRECT_ENABLED": False,
    "ROBOTSTXT_OBEY": False,
    "TELNETCONSOLE_ENABLED": False,
    "DOWNLOAD_TIMEOUT": options["timeout"],
    "FEEDS": {os.devnull: {"format": "jsonlines"}},
}


class FeedSpider(scrapy.Spider):
    name = "feeds"

    async def start(self):
        for url in options["urls"]:
            yield scrapy.Request(url, dont_filter=True)

    def parse(self, response):
        found["feeds"] += 1
        for entry in fastfeedparser.parse(response.body).entries:
            found["stories"] += 1
            yield {"feed": response.url, "id": entry.get("id"), "title": entry.get("title"), "link": entry.get("link")}


process = CrawlerProcess(SETTINGS)
process.crawl(FeedSpider)
process.start()
fetching.report(**found)
