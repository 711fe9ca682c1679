"""What is known of pages and pictures: each once, committed one by one, with limits."""

from pathlib import Path

import pytest

from diptych.collect.pages.frontier import NAME, Frontier, Job
from diptych.collect.pages.limits import CrawlLimits
from diptych.collect.pairs import Found, Words
from diptych.errors import ArgumentError, DataError

HOST = "site.org"
WORDS = (Words("A dog", "alt"), Words("Dogs", "heading"))


def url(path: str) -> str:
    return f"http://{HOST}/{path}"


def next_of(frontier: Frontier, host: str = HOST) -> Job:
    job = frontier.next(host)
    assert job is not None
    return job


def finish(frontier: Frontier, job: Job, *links: str, pictures: tuple[str, ...] = ()) -> None:
    found = [Found(each, WORDS, job.url, "en", "", 1.5) for each in pictures]
    frontier.finish_page(job, digest=job.url.encode(), found=found, links=links, refused=["logo"])


def test_what_is_finished_is_not_given_again_by_another_process(tmp_path: Path) -> None:
    frontier = Frontier(tmp_path, CrawlLimits())
    frontier.add_pages([url("a"), url("b"), url("a")], 0)
    finish(frontier, next_of(frontier), url("a"), url("c"), pictures=(url("1.jpg"), url("1.jpg")))
    another = Frontier(tmp_path, CrawlLimits())  # the first is not closed: its process was killed
    given = [next_of(another)]
    assert (given[0].kind, given[0].url) == ("picture", url("1.jpg"))
    assert given[0].found == Found(url("1.jpg"), WORDS, url("a"), "en", "", 1.5)
    another.finish_picture(given[0], "ab" * 32)
    while job := another.next(HOST):
        given.append(job)
        another.leave_out(job, "failed", "404")
    assert [job.url for job in given[1:]] == [url("b"), url("c")]
    assert another.counts("page") == {"done": {"": 1}, "failed": {"404": 2}}
    assert another.refused_words() == {"logo": 1}
    assert another.hosts == set()
    assert another.retry() == 2
    assert another.hosts == {HOST}


def test_a_redirect_is_one_more_address(tmp_path: Path) -> None:
    frontier = Frontier(tmp_path, CrawlLimits(redirects=2))
    frontier.add_pages([url("0")], 0)
    for number in range(1, 9):
        if (job := frontier.next(HOST)) is None:
            break
        frontier.redirect(job, url(str(number)))
    assert frontier.counts("page") == {"failed": {"redirects": 1}, "redirected": {"": 2}}
    frontier.add_pages([url("loop")], 0)
    frontier.redirect(next_of(frontier), url("loop"))
    assert frontier.next(HOST) is None


def test_limits_on_depth_and_pages(tmp_path: Path) -> None:
    frontier = Frontier(tmp_path, CrawlLimits(depth=1, pages_per_host=2))
    frontier.add_pages([url("a")], 0)
    finish(frontier, next_of(frontier), url("b"), url("c"))
    finish(frontier, next_of(frontier), url("d"))
    assert frontier.next(HOST) is None
    assert frontier.counts("page") == {"done": {"": 2}, "queued": {"": 1}, "refused": {"too deep": 1}}
    frontier.close()
    farther = Frontier(tmp_path, CrawlLimits(depth=2, pages_per_host=3))
    finish(farther, next_of(farther))
    assert farther.next(HOST) is None
    assert farther.counts("page") == {"done": {"": 3}, "queued": {"": 1}}


def test_pages_of_one_shape_that_show_nothing_new_are_endless(tmp_path: Path) -> None:
    frontier = Frontier(tmp_path, CrawlLimits(barren=3))
    frontier.add_pages([url(f"month/{number}") for number in range(9)], 0)
    for number in range(3):
        job = next_of(frontier)
        assert not frontier.is_endless(job)
        finish(frontier, job, pictures=(url("new.jpg"),) if number == 0 else ())
        if number == 0:
            frontier.leave_out(next_of(frontier), "failed", "404")
    assert not frontier.is_endless(next_of(frontier))  # the first showed a picture, two showed none
    finish(frontier, next_of(frontier))
    assert frontier.is_endless(next_of(frontier))
    frontier.add_pages(["http://site.org/x/y/x/y/x/y/x/y"], 0)


def test_a_page_with_the_content_of_another_leads_nowhere(tmp_path: Path) -> None:
    frontier = Frontier(tmp_path, CrawlLimits())
    frontier.add_pages([url("a"), url("b")], 0)
    for name in "ab":
        frontier.finish_page(next_of(frontier), digest=b"same", links=[url(f"{name}/next")])
    assert frontier.counts("page") == {"done": {"": 1}, "duplicate": {"": 1}, "queued": {"": 1}}


def test_a_try_that_failed_is_repeated_up_to_a_limit(tmp_path: Path) -> None:
    frontier = Frontier(tmp_path, CrawlLimits(tries=2))
    frontier.add_pages([url("a")], 0)
    frontier.postpone(next_of(frontier), "503")
    frontier.postpone(next_of(frontier), "503")
    assert frontier.next(HOST) is None
    assert frontier.counts("page") == {"failed": {"503": 1}}


def test_a_page_that_ends_the_process_again_and_again_is_left_out(tmp_path: Path) -> None:
    limits = CrawlLimits(tries=2)
    first = Frontier(tmp_path, limits)
    first.add_pages([url("a"), url("b")], 0)
    first.begin(next_of(first))
    second = Frontier(tmp_path, limits)
    second.begin(next_of(second))
    third = Frontier(tmp_path, limits)
    assert next_of(third).url == url("b")
    assert third.counts("page")["failed"] == {"ended the process": 1}


def test_a_picture_that_a_shard_has_is_not_asked_for_again(tmp_path: Path) -> None:
    frontier = Frontier(tmp_path, CrawlLimits())
    frontier.add_pages([url("a")], 0)
    finish(frontier, next_of(frontier), pictures=(url("1.jpg"), url("2.jpg")))
    frontier.note_written(url("1.jpg"), "ab" * 32)
    assert next_of(frontier).url == url("2.jpg")
    assert frontier.has_content("ab" * 32)
    assert not frontier.has_content("cd" * 32)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"no database" * 100)
    with pytest.raises(DataError, match="no list of pages"):
        Frontier(tmp_path, CrawlLimits())


@pytest.mark.parametrize("limits", [{"pages": 0}, {"depth": -1}, {"delay_s": -1.0}, {"deadline_s": float("nan")}])
def test_limits_that_allow_nothing_are_refused(limits: dict) -> None:
    with pytest.raises(ArgumentError, match="wanted"):
        CrawlLimits(**limits)
