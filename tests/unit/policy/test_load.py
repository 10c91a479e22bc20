"""Loading a policy folder."""

import json
import re
from pathlib import Path

import pytest
from mcp_sod.errors import PolicyError
from mcp_sod.policy.load import load, policy_files
from mcp_sod.policy.source import MAX_FILE, Source

from tests.unit.cases import Case, Pair, rows, tables
from tests.unit.making import EMPTY
from tests.world.policies import DEFAULT


class Wrong(Case):
    """A policy, given whole or as the right one with a piece added, and what its error says; right if nothing."""

    text: str | None = None
    add: str = ""
    replace: Pair[str] | None = None
    says: list[str]


RIGHT: str = tables("policy")["wrong"].cases[0]["text"]


def policy(folder: Path, **files: str) -> Path:
    """A policy folder with these files, and one more in which every section that they leave out stands empty."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    if not files:
        return folder
    given = "\n".join(file.read_text() for file in folder.glob("*.yaml") if file.name != "zz.yaml")
    missing = [section for section in EMPTY if re.search(rf"(?m)^{section}:", given) is None]
    (folder / "zz.yaml").write_text("\n".join(f"{section}: {json.dumps(EMPTY[section])}" for section in missing))
    return folder


@pytest.mark.parametrize(
    "section",
    [
        "upstreams",
        "identity",
        "roles",
        "permissions",
        "separation",
        "delivery",
        "revocation",
        "rules",
        "masking",
        "audit",
    ],
)
def test_a_section_that_got_lost_is_no_empty_one(section: str, tmp_path: Path) -> None:
    """A policy without one of its sections, as when a file is moved away, is refused; an empty one is a choice."""
    sections = {"version": 1, "gateway": {"name": "g"}, **EMPTY}
    file = policy(tmp_path / "p") / "zz.yaml"
    file.write_text(json.dumps(sections))
    assert load(tmp_path / "p").document.version == 1
    file.write_text(json.dumps({name: value for name, value in sections.items() if name != section}))
    with pytest.raises(PolicyError, match=f"^{section}: is missing from the policy folder. Add it"):
        load(tmp_path / "p")


def whole(case: Wrong) -> str:
    """The policy text that a row speaks of."""
    text = RIGHT if case.text is None else case.text
    if case.replace:
        assert case.replace[0] in text
        text = text.replace(*case.replace)
    return text + case.add.replace("DEEP", "[" * 5000 + "]" * 5000)


@pytest.mark.parametrize(("_policy", "case"), rows("policy", Wrong))
def test_a_wrong_policy_is_refused_with_file_line_key_and_remedy(_policy: object, case: Wrong, tmp_path: Path) -> None:
    """The error names where, what, and what to do; the right policy loads."""
    folder = policy(tmp_path / "p", policy=whole(case))
    if not case.says:
        assert load(folder).document.version == 1
        return
    with pytest.raises(PolicyError) as error:
        load(folder)
    for part in case.says:
        assert part in str(error.value)


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    """An author with three faults of shape gets three lines, each with its own place."""
    folder = policy(tmp_path / "p", policy=RIGHT + "\nrulez: 1\naudit: {stor: x}\nidentity: {}")
    with pytest.raises(PolicyError) as error:
        load(folder)
    assert [line.split(": ")[0] for line in sorted(str(error.value).splitlines())] == [
        "policy.yaml:7",
        "policy.yaml:8",
        "policy.yaml:9",
    ]


def test_files_make_one_policy(tmp_path: Path) -> None:
    """Lists join in the order of the files' names, mappings by key; each fault is named with its own file and line."""
    files = {
        "a": RIGHT + "\nrules:\n  - {id: first, action: note, detect: [key]}",
        "b": "# two\n# lines\nroles: {third: {groups: [x]}}\nrules:\n  - {id: second, action: note, detect: [key]}",
    }
    found = load(policy(tmp_path / "p", **files))
    assert [rule.id for rule in found.document.rules] == ["first", "second"]
    assert set(found.document.roles) == {"sender", "approver", "third"}
    policy(tmp_path / "p", c="\n\nrules:\n  - {id: third, action: note, detect: [kee]}")
    with pytest.raises(PolicyError, match=r"^c\.yaml:4: rules\.2\.detect: there is no detector 'kee'"):
        load(tmp_path / "p")


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ("version: 1", "b.yaml:1: version is given twice. It stands at a.yaml:1 already"),
        ("\nroles: {sender: {groups: [mine]}}", "b.yaml:2: roles.sender is given twice. It stands at a.yaml:4 already"),
        ("gateway: {name: other}", "b.yaml:1: gateway.name is given twice. It stands at a.yaml:2 already"),
        ("roles: [x]", "b.yaml:1: roles is given twice"),
    ],
)
def test_no_file_overrides_another(tmp_path: Path, second: str, says: str) -> None:
    """What two files say differently is an error that names both: a later file must not quietly win."""
    with pytest.raises(PolicyError) as error:
        load(policy(tmp_path / "p", a=RIGHT, b=second))
    assert says in str(error.value)


def test_yaml_and_yml_are_read_and_nothing_else(tmp_path: Path) -> None:
    """Notes, backups and folders in the policy folder are no part of it."""
    folder = policy(tmp_path / "p", a=RIGHT)
    (folder / "b.yml").write_text("audit: {store: 'file:there'}")
    (folder / "a.yaml~").write_text("nonsense: [")
    (folder / "README.md").write_text("nonsense: [")
    (folder / "old.yaml").mkdir()
    assert [file.name for file in policy_files(folder)] == ["a.yaml", "b.yml", "zz.yaml"]
    assert load(folder).audit.store == "file:there"


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A folder that is not there or empty, a file that is too large or not UTF-8: each is told with a remedy."""
    with pytest.raises(PolicyError, match=r"nowhere cannot be read: No such file.*Give another folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(PolicyError, match=r"holds no \.yaml file\. Copy policies/"):
        load(policy(tmp_path / "empty"))
    (policy(tmp_path / "latin") / "a.yaml").write_bytes("# é".encode("latin-1"))
    with pytest.raises(PolicyError, match=r"a\.yaml is not UTF-8"):
        load(tmp_path / "latin")
    with pytest.raises(PolicyError, match=r"a\.yaml is larger than"):
        load(policy(tmp_path / "large", a="#" * (MAX_FILE + 1)))


def test_a_bomb_of_aliases_is_refused(tmp_path: Path) -> None:
    """Aliases that would unfold to millions of values end in an error, not in memory."""
    lines = [
        "a0: &a0 [x, x, x, x, x, x, x, x]",
        *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 9)),
    ]
    with pytest.raises(PolicyError, match="more than 50000 values"):
        load(policy(tmp_path / "p", a="\n".join(lines)))


def test_the_digest_is_of_names_and_bytes(tmp_path: Path) -> None:
    """Any byte and any file name changes it, and text moved between files too; loading again does not."""
    first = load(policy(tmp_path / "p", a=RIGHT, b="# 1\n")).digest
    assert load(tmp_path / "p").digest == first
    digests = {
        load(policy(tmp_path / "q", a=RIGHT, b="# 2\n")).digest,
        load(policy(tmp_path / "r", a=RIGHT, c="# 1\n")).digest,
        load(policy(tmp_path / "s", a=RIGHT + "# 1\n", b="")).digest,
        load(policy(tmp_path / "t", a=RIGHT)).digest,
    }
    assert len(digests | {first}) == 5


def test_the_default_policy_is_usable() -> None:
    """The policies of this checkout load, let nobody in yet, name their identity file, and hold what they promise."""
    found = load(DEFAULT)
    document = found.document
    assert document.identity == []
    assert found.identity_file == (DEFAULT / "identity.yaml").resolve()
    assert {"prompt-sender", "approver", "raw-viewer", "auditor", "revoker"} == set(document.roles)
    assert document.roles["approver"].humans
    assert {rule.action for rule in document.rules} == {"hold"}
    assert all(found.rule_detectors(rule) for rule in document.rules)
    assert all(found.mask_detectors(mask) for mask in document.masking)
    assert document.audit.retention.mode == "COMPLIANCE"
    assert found.state == (DEFAULT.parent / "var").resolve()


def test_the_identity_example_is_right(tmp_path: Path) -> None:
    """The commented example in identity.yaml, taken as it stands, is a valid identity section."""
    lines = (DEFAULT / "identity.yaml").read_text().splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("# identity:"))
    example = [line[2:] for line in lines[start:] if line.startswith("#")]
    files = {file.stem: file.read_text() for file in DEFAULT.glob("*.yaml")} | {"identity": "\n".join(example)}
    assert load(policy(tmp_path / "p", **files)).document.identity[0].issuer == "https://login.example.com"


def test_a_place_is_the_nearest_that_is_known() -> None:
    """A path that has no place of its own has that of what is around it; with nothing read, none."""
    source = Source()
    assert source.place(("rules", 0)) == ""
    source.add(Path("a.yaml"), "rules:\n  - id: x\n")
    assert source.place(("rules", 0, "action")) == "a.yaml:2"
    assert source.place(("audit",)) == "a.yaml:1"


def test_a_value_that_yaml_reads_its_own_way_is_what_was_written() -> None:
    """A date stays text; numbers and truth values are what YAML says."""
    source = Source()
    source.add(Path("a.yaml"), "a: 2026-01-02\nb: 12\nc: yes\nd: ~\ne: '12'\n")
    assert source.tree == {"a": "2026-01-02", "b": 12, "c": True, "d": None, "e": "12"}
