"""What the one-node Ceph is told: its configuration, and who may do what in a locked bucket."""

from pathlib import Path

WRITER_MAY_NOT = [
    "s3:GetObject",
    "s3:GetObjectVersion",
    "s3:ListBucket",
    "s3:ListBucketVersions",
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:PutObjectRetention",
    "s3:PutObjectLegalHold",
    "s3:PutObjectAcl",
    "s3:PutObjectVersionAcl",
    "s3:BypassGovernanceRetention",
    "s3:PutBucketObjectLockConfiguration",
]
AUDITOR_MAY = [
    "s3:ListBucket",
    "s3:ListBucketVersions",
    "s3:GetObject",
    "s3:GetObjectVersion",
    "s3:GetObjectRetention",
    "s3:GetObjectLegalHold",
    "s3:GetBucketVersioning",
    "s3:GetBucketObjectLockConfiguration",
]


def configuration(folder: Path, fsid: str, mon_address: str, port: int) -> str:
    """The text of ceph.conf for one mon, one osd in memory and one radosgw, all on loopback.

    Args:
        folder: Where the daemons keep everything.
        fsid: The cluster's id.
        mon_address: The mon's address in Ceph's form, `[v2:…,v1:…]`.
        port: Where radosgw listens.
    """
    return f"""\
[global]
fsid = {fsid}
mon_host = {mon_address}
public_network = 127.0.0.0/8
cluster_network = 127.0.0.0/8
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
auth_allow_insecure_global_id_reclaim = false
keyring = {folder}/keyring
run_dir = {folder}
# No admin sockets: their paths may not exceed 108 bytes, and a test's folder can be longer than that.
admin_socket =
log_file = {folder}/log/$name.log
crash_dir = {folder}/log
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 500
# One mon need not wait for others: this takes seconds off the start.
paxos_propose_interval = 0.01
paxos_min_wait = 0.01
mon_cluster_log_to_file = false
debug_ms = 0
[mon]
mon_data = {folder}/mon
mon_data_avail_crit = 1
mon_data_avail_warn = 2
[osd]
osd_data = {folder}/osd
osd_objectstore = memstore
memstore_device_bytes = 4294967296
osd_memory_target = 939524096
osd_class_load_list = *
osd_class_default_list = *
[client.rgw]
rgw_data = {folder}/rgw
rgw_frontends = beast endpoint=127.0.0.1:{port}
rgw_enable_usage_log = false
rgw_thread_pool_size = 32
# One shard of everything is enough here, and each one less is one round trip less at the start.
rgw_override_bucket_index_max_shards = 1
rgw_gc_max_objs = 2
rgw_lc_max_objs = 2
rgw_usage_max_shards = 1
rgw_data_log_num_shards = 1
rgw_md_log_max_shards = 1
rgw_objexp_hints_num_shards = 1
rgw_num_rados_handles = 1
rgw_dynamic_resharding = false
rgw_enable_quota_threads = false
rgw_max_objs_per_shard = 1000000
"""


def bucket_policy(bucket: str) -> dict[str, object]:
    """A bucket policy under which writer can only add and auditor can only read."""
    resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    statements = [
        ("Allow", "writer", ["s3:PutObject"]),
        ("Deny", "writer", WRITER_MAY_NOT),
        ("Allow", "auditor", AUDITOR_MAY),
    ]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": effect,
                "Principal": {"AWS": [f"arn:aws:iam:::user/{user}"]},
                "Action": actions,
                "Resource": resources,
            }
            for effect, user, actions in statements
        ],
    }
