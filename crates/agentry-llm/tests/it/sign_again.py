"""Signs again with botocore what our client signed; says what botocore makes of it.

Standard input: {"url", "headers", "body"} of a request as it came, and the keys. Standard output: the value of the
`Authorization` header that botocore would send at the same moment.
"""

import datetime
import json
import sys

import botocore.auth
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

asked = json.load(sys.stdin)
moment = datetime.datetime.strptime(asked["headers"]["x-amz-date"], "%Y%m%dT%H%M%SZ")
botocore.auth.get_current_datetime = lambda: moment

credentials = Credentials(asked["id"], asked["secret"], asked["token"])
request = AWSRequest(
    method="POST",
    url=asked["url"],
    headers={"content-type": asked["headers"]["content-type"]},
    data=asked["body"].encode(),
)
SigV4Auth(credentials, "bedrock", asked["region"]).add_auth(request)
assert request.headers["X-Amz-Date"] == asked["headers"]["x-amz-date"], request.headers["X-Amz-Date"]
print(request.headers["Authorization"])
