"""`clipcite open`: the web page."""

import typer

from clipcite.cli.connection import Key, Url, connected, stdout


def open_page(url: Url = None, key: Key = None) -> None:
    """Open the web page of the service.

    The token of this machine's service goes with the link, so that the page asks for none.
    """
    from clipcite.client.address import local_token

    with connected(url, key) as client:
        client.ready()
        address = client.base_url.rstrip("/")
    token = None if url else local_token()
    link = f"{address}/#token={token}" if token else address
    stdout().print(link, markup=False, soft_wrap=True)
    typer.launch(link)
