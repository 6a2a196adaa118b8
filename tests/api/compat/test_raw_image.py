"""POST /classify with one image as its body, as microcontrollers and `curl --data-binary` send it."""

import base64

from core.clip.models.backbone import Backbone
from tests.api import crafted
from tests.api.service import Service, assert_problem
from tests.api.serving.adapted import publish_model


def test_the_other_fields_are_query_parameters(fresh: Service, backbone: Backbone) -> None:
    """Any byte may follow the first ones of an image, in any number."""
    model = publish_model(fresh.database, fresh.blobs, backbone)
    image = crafted.jpeg(1) + 110_000 * b","
    options = {"model": model, "class_names": ["oak", "badger"], "top_k": 1}
    sent = {"params": options, "content": image, "headers": {"Content-Type": "image/jpeg"}}
    raw = fresh.client.post("/classify", **sent)
    assert raw.status_code == 200, raw.text
    body = {**options, "images": [{"base64": base64.b64encode(image).decode()}]}
    assert raw.json()["results"] == fresh.client.post("/classify", json=body).json()["results"]
    refused = fresh.client.post("/classify", **{**sent, "params": {"clas_names": "oak"}})
    assert_problem(refused, 422, "invalid_request", "Did you mean `class_names`")
    assert_problem(fresh.client.post("/classify", **{**sent, "content": b"[]"}), 422, "bad_images")
