"""Sharing a model and tracking its training: the Hugging Face Hub, MLflow, W&B, TensorBoard."""

from aevb.share.mlflow import MLflow, log_model
from aevb.share.model_card import card
from aevb.share.tensorboard import TensorBoard
from aevb.share.tracker import Tracker
from aevb.share.wandb import WandB

__all__ = ["MLflow", "TensorBoard", "Tracker", "WandB", "card", "log_model"]
