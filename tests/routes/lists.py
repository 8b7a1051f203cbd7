"""Lists of the API, read to their end."""


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
