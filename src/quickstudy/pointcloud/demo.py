"""The demo of point clouds."""

from __future__ import annotations

from quickstudy.pointcloud.nets import DistanceHistogram
from quickstudy.pointcloud.tasks import PointCloudClassificationData, PointCloudClassifier
from quickstudy.training.demonstration import Act

ACT = Act(
    dataset="shapes",
    about="Shapes: point clouds of things that do not exist, of a few solids each, turned about their upright axis",
    classes="kinds of shapes",
    examples="point clouds",
    unseen="kinds of shapes",
    data=PointCloudClassificationData,
    task=PointCloudClassifier,
    backbone="pointnet",
    options={},
    network="PointNet of 4 layers",
    plan={"ways": 15, "queries": 4, "test_queries": 5},
    rate=2e-3,
    epochs=4,
    plain="distances between points",
    baseline=DistanceHistogram,
    asked=4,
)
