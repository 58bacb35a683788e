"""Object stores as callers describe them: which fields of a `RemoteConf` count for which type (grpc.md 5.5)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import NamedTuple

from volumed.errors import ClientError
from volumed.formats.jsonsyntax import syntax_error
from volumed.remote.s3 import S3Settings
from volumed.wire import remote_pb2

__all__ = ["check_gcs_credentials", "endpoint_of", "s3_settings"]

_GCS_TYPES = ("service_account", "authorized_user")


class _Family(NamedTuple):
    """One type that speaks the S3 protocol. A name of a field is that in the message."""

    access_key: str
    secret_key: str
    endpoint: str
    region: str = ""
    fixed_region: str = ""
    path_style: bool = True
    variables: tuple[str, str] = ("", "")
    """Of the environment, that stand in for missing keys."""


_AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")

_FAMILIES = {
    "s3": _Family("s3_access_key", "s3_secret_key", "s3_endpoint", "s3_region"),
    "aliyun": _Family(
        "aliyun_access_key",
        "aliyun_secret_key",
        "aliyun_endpoint",
        "aliyun_region",
        path_style=False,
        variables=("ALICLOUD_ACCESS_KEY_ID", "ALICLOUD_ACCESS_KEY_SECRET"),
    ),
    "tencent": _Family(
        "tencent_secret_id",
        "tencent_secret_key",
        "tencent_endpoint",
        fixed_region="us-west-2",
        variables=("COS_SECRETID", "COS_SECRETKEY"),
    ),
    "baidu": _Family(
        "baidu_access_key",
        "baidu_secret_key",
        "baidu_endpoint",
        "baidu_region",
        path_style=False,
        variables=("BDCLOUD_ACCESS_KEY", "BDCLOUD_SECRET_KEY"),
    ),
    "b2": _Family("backblaze_key_id", "backblaze_application_key", "backblaze_endpoint", "backblaze_region"),
    "wasabi": _Family("wasabi_access_key", "wasabi_secret_key", "wasabi_endpoint", "wasabi_region"),
    "contabo": _Family(
        "contabo_access_key",
        "contabo_secret_key",
        "contabo_endpoint",
        "contabo_region",
        variables=("ACCESS_KEY", "SECRET_KEY"),
    ),
    "filebase": _Family(
        "filebase_access_key", "filebase_secret_key", "filebase_endpoint", fixed_region="us-east-1", variables=_AWS
    ),
    "storj": _Family(
        "storj_access_key", "storj_secret_key", "storj_endpoint", fixed_region="us-west-2", variables=_AWS
    ),
}


def s3_settings(conf: remote_pb2.RemoteConf, environment: Mapping[str, str] = os.environ) -> S3Settings | None:
    """How to reach the store; None for a type that does not speak the S3 protocol."""
    family = _FAMILIES.get(conf.type)
    if family is None:
        return None
    keys = [
        getattr(conf, field) or environment.get(variable, "")
        for field, variable in zip((family.access_key, family.secret_key), family.variables, strict=True)
    ]
    return S3Settings(
        endpoint=getattr(conf, family.endpoint),
        region=family.fixed_region or (getattr(conf, family.region) if family.region else ""),
        access_key=keys[0],
        secret_key=keys[1],
        path_style=conf.s3_force_path_style if conf.type == "s3" else family.path_style,
        anonymous=True,
    )


def endpoint_of(conf: remote_pb2.RemoteConf) -> str:
    """Where the description would have us connect to; empty = where the type's own service is."""
    if conf.type == "azure":
        return str(conf.azure_endpoint)
    if conf.type == "gcs":
        return _gcs_field(conf, "token_uri")
    settings = s3_settings(conf)
    return "" if settings is None else settings.endpoint


def check_gcs_credentials(conf: remote_pb2.RemoteConf) -> None:
    """Credentials may name what is to be run or asked to get others; only plain ones are taken. Raises
    `ClientError`."""
    raw = conf.gcs_google_application_credentials
    if conf.type != "gcs" or not raw:
        return
    problem = syntax_error(raw.encode())
    if problem:
        raise ClientError(f"parse gcs credentials: {problem}")
    kind = _gcs_field(conf, "type")
    if kind not in _GCS_TYPES:
        raise ClientError(f'gcs credential type "{kind}" is not accepted here')


def _gcs_field(conf: remote_pb2.RemoteConf, name: str) -> str:
    try:
        document = json.loads(conf.gcs_google_application_credentials)
    except ValueError:
        return ""
    value = document.get(name) if isinstance(document, dict) else None
    return value if isinstance(value, str) else ""
