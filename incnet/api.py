"""The public names, and where they are at home: what :mod:`incnet` imports when one of them is first used."""

from incnet.backend import Array as Array, asarray as asarray, asnumpy as asnumpy, ops as ops, use as use
from incnet.config import Config as Config, ConfigError as ConfigError
from incnet.data import (
    Augmentation as Augmentation,
    Batch as Batch,
    DataError as DataError,
    Dataset as Dataset,
    Loader as Loader,
    Normalisation as Normalisation,
    Split as Split,
    load_dataset as load_dataset,
    split_validation as split_validation,
)
from incnet.deploy import Model as Model, ModelError as ModelError, load_model as load_model, save_model as save_model
from incnet.fusion import fuse as fuse
from incnet.graph import Graph as Graph
from incnet.growth.criterion import (
    GrowthRule as GrowthRule,
    Periodic as Periodic,
    Plateau as Plateau,
    SlopeAngle as SlopeAngle,
)
from incnet.growth.insertion import insert as insert
from incnet.layer import Layer as Layer
from incnet.layers import (
    AvgPool2d as AvgPool2d,
    BatchNorm2d as BatchNorm2d,
    Conv2d as Conv2d,
    Dropout as Dropout,
    Flatten as Flatten,
    GlobalAvgPool2d as GlobalAvgPool2d,
    Identity as Identity,
    LeakyReLU as LeakyReLU,
    Linear as Linear,
    MaxPool2d as MaxPool2d,
    ReLU as ReLU,
    Residual as Residual,
    Sequential as Sequential,
    Subsample as Subsample,
    residual_block as residual_block,
)
from incnet.models import (
    Unit as Unit,
    build as build,
    make_classifier as make_classifier,
    partition as partition,
    resnet as resnet,
    vgg16 as vgg16,
)
from incnet.optim import SGD as SGD, Optimizer as Optimizer, RMSProp as RMSProp
from incnet.parameter import Parameter as Parameter
from incnet.run.run import Run as Run
from incnet.session import resume_run as resume_run, train_run as train_run
from incnet.training.average import WeightAverage as WeightAverage
from incnet.training.loop import Metrics as Metrics, evaluate as evaluate, train_epoch as train_epoch
from incnet.training.nonfinite import NonFiniteError as NonFiniteError
from incnet.training.progress import Display as Display
from incnet.training.recalibration import recalibrate as recalibrate
from incnet.training.replay import Replay as Replay
from incnet.training.signals import Interrupted as Interrupted
from incnet.training.step import Step as Step
