"""A FastAPI application with a router, an error and a background task, under uvicorn."""

from fastapi import APIRouter, BackgroundTasks, FastAPI, HTTPException
from serving import get, served

app = FastAPI()
router = APIRouter(prefix="/orders")


def notify() -> None:
    """Runs after the answer was sent."""


@router.get("/{number}")
async def order(number: int, tasks: BackgroundTasks) -> dict[str, int]:
    tasks.add_task(notify)
    return {"order": number}


@app.get("/missing")
def missing() -> None:
    raise HTTPException(404)


app.include_router(router)
with served(app) as port:
    get(port, "/orders/7", "/missing")
