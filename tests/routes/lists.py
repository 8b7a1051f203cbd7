"""Lists of the API, read to their end."""

import itertools


def ids(answer):
    assert answer.status == 200
    return [item["id"] for item in answer.json()["items"]]


def walk(client, path):
    """The ids of every page of a list."""
    seen, page = [], client.get(path).json()
    while True:
        seen.append([item["id"] for item in page["items"]])
        if page["next"] is None:
            return seen
        page = client.get(f"{path}&after={page['next']}").json()


def assert_cursors_go_with_their_filters(client, path, filters):
    """A cursor is good with the filters that it was made with, and with no others; the cursors, by filters such as `&status=paid`."""
    cursors = {chosen: client.get(f"{path}?limit=1{chosen}").json()["next"] for chosen in filters}
    assert all(cursors.values())
    for chosen, other in itertools.product(filters, filters):
        answer = client.get(f"{path}?limit=3&after={cursors[other]}{chosen}")
        assert answer.status == (200 if chosen == other else 400), (chosen, other)
    return cursors
