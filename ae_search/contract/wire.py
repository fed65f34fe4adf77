"""Names on the wire: the signatures of an exported encoder, and the tensors that they take and return."""

SIGNATURE_FLOAT = "serving_default"
SIGNATURE_UINT8 = "encode_uint8"
SIGNATURE_BYTES = "encode_bytes"
SIGNATURE_DESCRIBE = "describe"
# Missing where the model card says that there is no decoder.
SIGNATURE_DECODE = "decode"

IMAGES = "images"
IMAGE_BYTES = "image_bytes"
LATENTS = "latents"
MODEL_CARD = "model_card"
# The input of `describe`, int32 `[n]`; [0] where a request leaves it out. Its values mean nothing.
ROWS = "rows"
