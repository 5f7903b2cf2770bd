"""A second reader of sealed objects, written from docs/format.md alone, with Python's `cryptography`.

    read_sealed.py vectors FORMAT.MD         compute the vectors of the document and compare them
    read_sealed.py open KEYFILE CID PLACE…   open standard input; PLACE: commit N | segment WRITER N | pack full |
                                             pack delta HEX | node WRITER | project
"""
import base64
import hashlib
import hmac
import json
import re
import struct
import sys

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KINDS = {"segment": 1, "pack": 2, "commit": 3, "node": 4, "project": 5}


def hkdf(salt, key, info):
    return HKDF(SHA256(), 32, salt, info).derive(key)


def subkey(key, label):
    return hkdf(b"membridge seal 1", key, label.encode())


def key_text(key):
    check = hashlib.sha256(b"mbkey1-" + key).digest()[:3]
    return "mbkey1-" + base64.b32encode(key + check).decode().lower()


def key_of(text):
    raw = base64.b32decode(text.strip()[len("mbkey1-"):].upper())
    key, check = raw[:32], raw[32:]
    assert key_text(key) == text.strip(), check
    return key


def lp(field):
    return struct.pack("<I", len(field)) + field


def context(cid, place):
    kind, rest = place[0], place[1:]
    fields = [cid.encode(), kind.encode()]
    if kind == "segment":
        fields += [rest[0].encode(), struct.pack("<Q", int(rest[1]))]
    elif kind == "pack" and rest[0] == "full":
        fields += [b"full"]
    elif kind == "pack":
        fields += [b"delta", bytes.fromhex(rest[1])]
    elif kind == "commit":
        fields += [struct.pack("<Q", int(rest[0]))]
    elif kind == "node":
        fields += [rest[0].encode()]
    return b"".join(map(lp, fields))


def open_sealed(key, cid, place, stored):
    header, chunks = stored[:60], stored[60:]
    assert header[:8] == b"MBSEAL\r\n" and header[8:10] == b"\1\0" and header[11] == 0, "no sealed object"
    assert header[10] == KINDS[place[0]], "another kind"
    assert header[12:28] == subkey(key, "key-id")[:16], "another key"
    cipher = ChaCha20Poly1305(hkdf(header[28:60], subkey(key, place[0]), b"object"))
    covered, plain, number = header + context(cid, place), [], 0
    while True:
        chunk, chunks = chunks[:65552], chunks[65552:]
        nonce = number.to_bytes(11, "big") + bytes([not chunks])
        plain.append(cipher.decrypt(nonce, chunk, covered))
        assert plain[-1] or number == 0, "an empty last chunk"
        number += 1
        if not chunks:
            return b"".join(plain)


def mac(key, object_key, record):
    bare = {name: value for name, value in record.items() if name != "mac"}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return hmac.new(subkey(key, "record-mac"), lp(object_key.encode()) + text, "sha256").hexdigest()


def vectors(path):
    found = dict(re.findall(r"^\| ([a-z ]+) \| `([^`]+)` \|$", open(path, encoding="utf-8").read(), re.M))
    key, salt, cid = bytes(range(32)), bytes(range(32, 64)), "6fe2e0f6071ac2bb"
    assert found["key"] == key_text(key) and key_of(found["key"]) == key
    key_id = subkey(key, "key-id")[:16]
    assert found["key id"] == key_id.hex()
    stored = bytes.fromhex(found["sealed"])
    assert stored[28:60] == salt
    assert open_sealed(key, cid, ["commit", "7"], stored) == b"a memory"
    lease = {"epoch": 3, "primary_node_id": "desk", "key_id": key_id.hex()}
    assert found["mac"] == mac(key, f"projects/{cid}/leadership/lease.json", lease)
    derived = hashlib.pbkdf2_hmac("sha256", b"correct horse battery staple", salt, 600000)
    covered = b"membridge wrapped key 1" + key_id + struct.pack("<I", 600000)
    wrapped = ChaCha20Poly1305(derived).encrypt(bytes(12), key, covered)
    assert found["wrapped"] == base64.b64encode(wrapped).decode()
    print("the vectors hold")


if sys.argv[1] == "vectors":
    vectors(sys.argv[2])
else:
    key = key_of(open(sys.argv[2]).readline())
    stored = sys.stdin.buffer.read()
    if stored[:1] == b"{":
        record = json.loads(stored)
        assert record["schema"] == 2 and record["key_id"] == subkey(key, "key-id")[:16].hex()
        stored = base64.b64decode(record["sealed"])
    sys.stdout.buffer.write(open_sealed(key, sys.argv[3], sys.argv[4:], stored))
