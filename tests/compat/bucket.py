"""Says what lies under segments/ in a bucket, and how many uploads in parts nobody has finished.

Usage: bucket.py ENDPOINT BUCKET, with STORE_KEY and STORE_SECRET in the environment.
"""

import os
import sys

import boto3
from botocore.exceptions import ClientError

endpoint, bucket = sys.argv[1:]
s3 = boto3.client(
    "s3",
    endpoint_url=endpoint,
    region_name="us-east-1",
    aws_access_key_id=os.environ["STORE_KEY"],
    aws_secret_access_key=os.environ["STORE_SECRET"],
    config=boto3.session.Config(s3={"addressing_style": "path"}),
)
objects = 0
for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
    objects += sum("/segments/" in found["Key"] for found in page.get("Contents", []))
try:
    uploads = len(s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []))
except ClientError as error:
    print(f"uploads cannot be listed: {error}", file=sys.stderr)
    uploads = 0
print(f"{objects} objects, {uploads} uploads")
