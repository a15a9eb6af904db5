"""New stories to read: their selection, and pages with a cost that does not depend on their number."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from batches.models import Batch, Profile, StoryResult, find_mark, mark_as_read
from batches.reports import new_stories
from batches.reports.failures import start_of
from batches.reports.new_stories import ListWithStories, Selection, find_lists_with_stories, read_page
from batches.tests.support.factories import half_known, make_list, ok, run_list
from batches.tests.support.tables import explain, statements_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def find():
    """Adds a new story, at once or at that moment; its ID is the number that it is given."""

    def find(url, number, moment=None, **values):
        profile, _ = Profile.objects.get_or_create(url=url)
        found_at = moment or timezone.now()
        return StoryResult.objects.create(pk=number, profile=profile, story_id=str(number), found_at=found_at, **values)

    return find


def numbers(page):
    return [story.pk for story in page.stories]


def test_the_newest_come_first_without_the_baseline_and_without_pruned_stories(find):
    find("https://a.example/", 1)
    find("https://a.example/", 2, is_baseline=True)
    StoryResult.objects.filter(pk=find("https://a.example/", 3).pk).update(found_at=None)
    find("https://b.example/", 4)
    assert numbers(read_page(Selection())) == [4, 1]


def test_a_day_is_in_the_projects_time_zone(find):
    with timezone.override("Pacific/Auckland"):
        day = timezone.localdate()
        start, instant = start_of(day), timedelta(microseconds=1)
        for number, moment in enumerate(
            [start - instant, start, start + timedelta(hours=1), start_of(day + timedelta(1))]
        ):
            find("https://a.example/", number + 1, moment)
        assert numbers(read_page(Selection(day=day))) == [3, 2]
        assert numbers(read_page(Selection(day=day - timedelta(1)))) == [1]
        assert numbers(read_page(Selection(day=day + timedelta(1)))) == [4]
        assert numbers(read_page(Selection(day=day + timedelta(2)))) == []


def test_stories_that_were_found_at_the_same_time_belong_to_their_days_whatever_their_ids(find):
    today = timezone.localdate()
    yesterday = start_of(today) - timedelta(minutes=1)
    find("https://a.example/", 1, start_of(today))
    find("https://a.example/", 2, yesterday)
    find("https://a.example/", 3, start_of(today) + timedelta(minutes=1))
    assert numbers(read_page(Selection(day=today))) == [3, 1]
    assert numbers(read_page(Selection(day=today - timedelta(1)))) == [2]


def test_the_stories_of_a_list_belong_to_its_current_profiles(find):
    found = make_list("it", 2)  # https://example.org/0 and /1
    find("https://example.org/0", 1)
    find("https://example.org/1", 2)
    find("https://example.org/2", 3)
    find("https://example.org/", 4)
    assert numbers(read_page(Selection(list=found))) == [2, 1]
    assert numbers(read_page(Selection(list=found, host="example.org"))) == [2, 1]
    assert numbers(read_page(Selection(host="example.org"))) == [4, 3, 2, 1]
    assert numbers(read_page(Selection(host="example.com"))) == []


def test_the_stories_of_a_batch_are_its_counted_ones():
    batch = half_known()
    assert [story.story_id for story in read_page(Selection(batch=batch)).stories] == ["c", "b"]


def test_a_search_looks_through_a_limited_number_and_goes_on_from_there(find, monkeypatch):
    monkeypatch.setattr(new_stories, "LOOKED_THROUGH", 2)
    moment = timezone.now() - timedelta(hours=1)
    find("https://a.example/", 1)
    for number in (2, 3, 4, 5):
        find("https://b.example/", number, moment + timedelta(minutes=number))
    page = read_page(Selection(host="a.example"))
    assert (numbers(page), page.older, page.looked_back_to) == ([], 3, moment + timedelta(minutes=3))
    page = read_page(Selection(host="a.example", before=page.older))
    assert (numbers(page), page.older, page.looked_back_to) == ([1], None, None)


def test_each_page_is_read_by_index(find):
    find("https://a.example/", 1)
    found, today = make_list("it", 1), timezone.localdate()
    for selection in (Selection(), Selection(day=today), Selection(list=found), Selection(host="a.example", day=today)):
        for sql in statements_of(lambda selected=selection: read_page(selected)):
            plan = explain(sql)
            assert "SCAN batches_storyresult\n" not in f"{plan}\n"
            assert "Seq Scan on batches_storyresult" not in plan


def test_the_lists_of_a_day_with_the_most_new_stories_come_first():
    run_list(make_list("none", 1), ok())
    run_list(one := make_list("one", 1), ok("a"))
    run_list(two := make_list("two", 1), ok("b", "c"))
    run = run_list(make_list("yesterday", 1), ok("d"))
    today = timezone.localdate()
    Batch.objects.filter(pk=run.pk).update(completed_at=start_of(today) - timedelta(1))
    expected = [ListWithStories(two.pk, "two", 2), ListWithStories(one.pk, "one", 1)]
    assert find_lists_with_stories(today, 9) == expected
    assert find_lists_with_stories(today, 1) == expected[:1]


def test_a_mark_moves_forward_only_and_each_user_and_list_has_its_own(find):
    ada, bob = (User.objects.create_user(name) for name in ("ada", "bob"))
    found = make_list("it", 1)
    find("https://a.example/", 5)
    for up_to in (3, 2):
        mark_as_read(ada.pk, None, up_to)
        assert find_mark(ada.pk, None).up_to == 3
    mark_as_read(ada.pk, None, 10**18)
    assert find_mark(ada.pk, None).up_to == 5
    assert find_mark(bob.pk, None) is None
    assert find_mark(ada.pk, found) is None
    mark_as_read(ada.pk, found, 4)
    assert (find_mark(ada.pk, found).up_to, find_mark(ada.pk, None).up_to) == (4, 5)
