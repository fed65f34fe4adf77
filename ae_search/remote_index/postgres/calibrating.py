"""What was measured about the latents, stored beside them."""

from ae_search.contract import Metadata, metadata_json
from ae_search.remote_index.postgres.connections import Session


def store_calibration(session: Session, generation: int, name: str, values: Metadata) -> None:
    """Write what was measured about the latents of a generation."""
    session.execute(
        "INSERT INTO ae_search.calibration VALUES (%s, %s, %s::json) "
        "ON CONFLICT (generation, name) DO UPDATE SET value = excluded.value",
        (generation, name, metadata_json(name, values)),
    )
