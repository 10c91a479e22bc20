"""The rules that the README shows against a way round; tests/e2e/test_bypass.py applies those for nftables."""

import ipaddress
import re

import yaml

from tests.world.process import ROOT

README = (ROOT / "README.md").read_text()


def test_the_network_policy_lets_in_the_gateways_pods_alone() -> None:
    """One policy for incoming traffic, on chosen pods; what may come in fits both selectors, on one port."""
    (shown,) = re.findall(r"```yml\n(.*?)```", README, re.DOTALL)
    (policy,) = yaml.safe_load_all(shown)
    assert (policy["apiVersion"], policy["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy")
    assert {"name", "namespace"} == policy["metadata"].keys()
    spec = policy["spec"]
    assert spec["policyTypes"] == ["Ingress"]
    assert spec["podSelector"]["matchLabels"]
    (rule,) = spec["ingress"]
    (peer,) = rule["from"]  # two entries would be "or": all of a namespace, and such pods of any
    assert peer.keys() == {"namespaceSelector", "podSelector"}
    assert all(selector["matchLabels"] for selector in peer.values())
    assert [port.keys() for port in rule["ports"]] == [{"protocol", "port"}]
    assert set(spec) == {"podSelector", "policyTypes", "ingress"}


def test_the_packet_filters_addresses_are_nobodys() -> None:
    """Whoever copies the rules without reading opens nothing to anyone; both families have a rule."""
    (shown,) = re.findall(r"```nft\n(.*?)```", README, re.DOTALL)
    found = [ipaddress.ip_address(text) for text in re.findall(r"saddr != \{ (\S+) \}", shown)]
    assert [address.version for address in found] == [4, 6]
    documentation = [ipaddress.ip_network(text) for text in ("192.0.2.0/24", "2001:db8::/32")]
    assert [any(address in network for network in documentation) for address in found] == [True, True]
