"""Which addresses webhooks may be sent to."""

from __future__ import annotations

import ipaddress

import pytest

from confkeep.errors import InvalidSettings
from confkeep.settings import load_settings
from worker.hooks.networks import Networks

PRIVATE = (
    *("127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
    *("100.64.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "192.0.2.1", "198.18.0.1"),
    *("::1", "::", "fe80::1", "fc00::1", "fd12:3456::1", "ff02::1", "2001:db8::1"),
    *("fec0::1", "feff::1"),
    # IPv4 addresses in the clothes of IPv6.
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "2002:a00:1::"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "::7f00:1"),
)
PUBLIC = ("93.184.216.34", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101")


@pytest.mark.parametrize("text", PRIVATE)
def test_no_private_address_may_be_reached(text: str) -> None:
    assert not Networks("").allows(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_public_ones_may(text: str) -> None:
    assert Networks("").allows(ipaddress.ip_address(text))


def test_the_setting_allows_networks_and_no_others() -> None:
    networks = Networks("10.1.0.0/16, fd00::/8 127.0.0.1")
    allowed = ("10.1.2.3", "fd12::1", "127.0.0.1", "::ffff:10.1.2.3", "1.1.1.1")
    refused = ("10.2.0.1", "127.0.0.2", "192.168.0.1", "::1", "::ffff:10.2.0.1")
    assert all(networks.allows(ipaddress.ip_address(text)) for text in allowed)
    assert not any(networks.allows(ipaddress.ip_address(text)) for text in refused)


def test_a_setting_that_is_no_network_is_named() -> None:
    with pytest.raises(InvalidSettings, match="CONFKEEP_HOOKS_NETWORKS"):
        load_settings(hooks_networks="10.0.0.1/8")
    with pytest.raises(InvalidSettings, match="CONFKEEP_HOOKS_NETWORKS"):
        load_settings(hooks_networks="portal.example")
