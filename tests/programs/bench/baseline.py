"""What people have used: whole files by boto3, with the steps of the old script and without its pauses.

Written for the benchmark from what the bucket and the script's users see; shares nothing with the script.
Usage: baseline.py push|pull DATABASE, with ENDPOINT, BUCKET, KEY, SECRET and STATE (a file) in the environment.
"""

import hashlib
import json
import os
import sqlite3
import sys
import time

import boto3
from botocore.exceptions import ClientError

ENV = os.environ
BUCKET, PREFIX = ENV["BUCKET"], "projects/baseline/"
S3 = boto3.client(
    "s3",
    endpoint_url=ENV["ENDPOINT"],
    aws_access_key_id=ENV["KEY"],
    aws_secret_access_key=ENV["SECRET"],
    region_name="us-east-1",
)


def get(name):
    try:
        return S3.get_object(Bucket=BUCKET, Key=PREFIX + name)["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
            return None
        raise


def put(name, body):
    S3.put_object(Bucket=BUCKET, Key=PREFIX + name, Body=body)


def digest(path):
    sha256 = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            sha256.update(chunk)
    return sha256.hexdigest()


def checked(path):
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    count = db.execute("SELECT count(*) FROM observations").fetchone()[0]
    db.close()
    return count


def push(database):
    get("leadership/lease.json")
    copy = database + ".push"
    source, target = sqlite3.connect(database), sqlite3.connect(copy)
    with target:
        source.backup(target)
    source.close()
    target.close()
    count, sha256 = checked(copy), digest(copy)
    manifest = json.loads(get("sqlite/manifest.json") or b"{}")
    if manifest.get("sha256") == sha256:
        os.remove(copy)
        return
    get("locks/active.lock")
    put("locks/active.lock", json.dumps({"host": "baseline", "time": time.time()}))
    get("locks/active.lock")
    S3.upload_file(copy, BUCKET, PREFIX + "sqlite/claude-mem.db")
    size = S3.head_object(Bucket=BUCKET, Key=PREFIX + "sqlite/claude-mem.db")["ContentLength"]
    assert size == os.path.getsize(copy)
    put("sqlite/claude-mem.db.sha256", sha256)
    put("sqlite/manifest.json", json.dumps({"sha256": sha256, "db_size": size, "observations": count}))
    S3.delete_object(Bucket=BUCKET, Key=PREFIX + "locks/active.lock")
    os.remove(copy)


def pull(database):
    get("leadership/lease.json")
    manifest = json.loads(get("sqlite/manifest.json"))
    sha256 = get("sqlite/claude-mem.db.sha256").decode().split()[0]
    assert manifest["sha256"] == sha256
    if os.path.exists(ENV["STATE"]):
        with open(ENV["STATE"], encoding="utf-8") as state:
            if state.read() == sha256:
                return
    copy = database + ".pull"
    S3.download_file(BUCKET, PREFIX + "sqlite/claude-mem.db", copy)
    assert digest(copy) == sha256
    checked(copy)
    if os.path.exists(database):
        source, target = sqlite3.connect(database), sqlite3.connect(database + ".backup")
        with target:
            source.backup(target)
        source.close()
        target.close()
    os.replace(copy, database)
    checked(database)
    with open(ENV["STATE"], "w", encoding="utf-8") as state:
        state.write(sha256)


{"push": push, "pull": pull}[sys.argv[1]](sys.argv[2])
