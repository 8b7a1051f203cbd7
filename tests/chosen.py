"""What serves HTTP in this run of the tests: waitress, or what `scripts/test --server` names."""

from petstore.serving import server_class

name = "waitress"


def server(app, settings):
    """The application behind it."""
    return server_class(settings)(app, settings)
