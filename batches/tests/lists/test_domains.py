"""The registrable domain of an address."""

import pytest

from batches.lists.domains import domain_of


@pytest.mark.parametrize(
    ("url", "domain"),
    [
        ("https://example.com/feed", "example.com"),
        ("https://www.example.com:8443/", "example.com"),
        ("https://a.b.c.example.co.uk/", "example.co.uk"),
        ("https://www.xn--80ak6aa92e.xn--p1ai/", "xn--80ak6aa92e.xn--p1ai"),
        ("https://ada.github.io/feed", "ada.github.io"),
        ("https://www.ada.github.io/feed", "ada.github.io"),
        ("https://example.no-such-suffix/", "example.no-such-suffix"),
        # Nobody owns more than these.
        ("https://github.io/", "github.io"),
        ("https://co.uk/", "co.uk"),
        ("http://localhost:8000/", "localhost"),
        ("http://192.0.2.1:8000/", "192.0.2.1"),
        ("http://[2001:db8::1]:8000/", "2001:db8::1"),
    ],
)
def test_the_domain_of_an_address_is_the_registered_one(url, domain):
    assert domain_of(url) == domain
