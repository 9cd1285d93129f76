"""Objectives: what is minimised. The mathematics of each is also a pure function on arrays."""

from jaxft.objectives.a_distance import proxy_a_distance
from jaxft.objectives.adda import adda
from jaxft.objectives.afn import adaptive_feature_norm, norm_growth
from jaxft.objectives.attention_transfer import attention_distance, attention_map, attention_transfer
from jaxft.objectives.bnm import bnm, nuclear_norm_maximisation
from jaxft.objectives.bss import bss, smallest_singular_values
from jaxft.objectives.categories import calibration_temperature, category_relationship, reverse_category_relationship
from jaxft.objectives.cdan import cdan, certainty_weights, multilinear_map, randomized_map
from jaxft.objectives.class_mmd import class_mmd, class_mmd2, confident_labels, transfer_labels
from jaxft.objectives.co_optimal import CoOptimalPlans, co_optimal_transport
from jaxft.objectives.co_tuning import co_tuning, soft_cross_entropy
from jaxft.objectives.combine import combine
from jaxft.objectives.coral import coral, covariance, deep_coral
from jaxft.objectives.crd import contrastive_distillation, crd
from jaxft.objectives.dann import dann
from jaxft.objectives.deepjdot import deepjdot, label_cost
from jaxft.objectives.discriminator import apply_mlp, domain_cross_entropy, init_mlp
from jaxft.objectives.dist import correlation_distillation, dist
from jaxft.objectives.distances import squared_distances
from jaxft.objectives.dkd import decoupled_distillation, dkd
from jaxft.objectives.domains import erm, group_dro, group_weights, irm, scale_gradient
from jaxft.objectives.ensembles import Ensemble, ensemble, mean_logits
from jaxft.objectives.entropy import entropy, entropy_minimisation, infomax, information_maximisation
from jaxft.objectives.feature_distance import channel_attention, feature_distance, squared_feature_distance
from jaxft.objectives.fixmatch import fixmatch
from jaxft.objectives.gkd import generalised_jsd, gkd
from jaxft.objectives.gromov_wasserstein import fused_gromov_wasserstein_plan
from jaxft.objectives.hidden_cosine import cosine_distance, hidden_cosine
from jaxft.objectives.hints import hidden_mse, hints
from jaxft.objectives.jmmd import jmmd, jmmd2
from jaxft.objectives.kernels import bandwidths, gaussian
from jaxft.objectives.kl import kl_divergence
from jaxft.objectives.knowledge_distillation import hinton, knowledge_distillation
from jaxft.objectives.l2_sp import half_squared_distance, l2_sp
from jaxft.objectives.layer_maps import evenly
from jaxft.objectives.lmmd import lmmd, lmmd2
from jaxft.objectives.mcc import mcc, minimum_class_confusion
from jaxft.objectives.mcd import classifier_discrepancy, mcd
from jaxft.objectives.mdd import margin_disparity, mdd
from jaxft.objectives.mean_teacher import consistency, mean_teacher, moving_average
from jaxft.objectives.minilm import minilm, minilm2
from jaxft.objectives.mixup import mixup
from jaxft.objectives.mmd import mmd, mmd2
from jaxft.objectives.moments import m3sda, moment_distance
from jaxft.objectives.orthogonality import gram_distance, orthogonality
from jaxft.objectives.osbp import osbp, unknown_cross_entropy
from jaxft.objectives.partial_classes import partial_class_weights
from jaxft.objectives.pseudo_labels import confident_cross_entropy, pseudo_labels
from jaxft.objectives.r3f import r3f, symmetric_kl
from jaxft.objectives.relations import attention_kl, relation_kl, score_mse
from jaxft.objectives.reversal import inverse_decay, reversal_schedule, reverse_gradient
from jaxft.objectives.rkd import relational_distillation, rkd
from jaxft.objectives.shot import shot, shot_pseudo_labels
from jaxft.objectives.task import (
    cross_entropy,
    mean_squared_error,
    negative_log_likelihood,
    softmax_cross_entropy,
)
from jaxft.objectives.teachers import Teacher
from jaxft.objectives.tinybert import tinybert
from jaxft.objectives.tokens import next_token, span_cross_entropy
from jaxft.objectives.transport import barycentric_map, ot_map, sinkhorn_plan
from jaxft.objectives.vat import vat
from jaxft.objectives.wdgrl import critic_gap, gradient_penalty, wdgrl

__all__ = [
    "CoOptimalPlans",
    "Ensemble",
    "Teacher",
    "adaptive_feature_norm",
    "adda",
    "apply_mlp",
    "attention_distance",
    "attention_kl",
    "attention_map",
    "attention_transfer",
    "bandwidths",
    "barycentric_map",
    "bnm",
    "bss",
    "calibration_temperature",
    "category_relationship",
    "cdan",
    "certainty_weights",
    "channel_attention",
    "class_mmd",
    "class_mmd2",
    "classifier_discrepancy",
    "co_optimal_transport",
    "co_tuning",
    "combine",
    "confident_cross_entropy",
    "confident_labels",
    "consistency",
    "contrastive_distillation",
    "coral",
    "correlation_distillation",
    "cosine_distance",
    "covariance",
    "crd",
    "critic_gap",
    "cross_entropy",
    "dann",
    "decoupled_distillation",
    "deep_coral",
    "deepjdot",
    "dist",
    "dkd",
    "domain_cross_entropy",
    "ensemble",
    "entropy",
    "entropy_minimisation",
    "erm",
    "evenly",
    "feature_distance",
    "fixmatch",
    "fused_gromov_wasserstein_plan",
    "gaussian",
    "generalised_jsd",
    "gkd",
    "gradient_penalty",
    "gram_distance",
    "group_dro",
    "group_weights",
    "half_squared_distance",
    "hidden_cosine",
    "hidden_mse",
    "hinton",
    "hints",
    "infomax",
    "information_maximisation",
    "init_mlp",
    "inverse_decay",
    "irm",
    "jmmd",
    "jmmd2",
    "kl_divergence",
    "knowledge_distillation",
    "l2_sp",
    "label_cost",
    "lmmd",
    "lmmd2",
    "m3sda",
    "margin_disparity",
    "mcc",
    "mcd",
    "mdd",
    "mean_logits",
    "mean_squared_error",
    "mean_teacher",
    "minilm",
    "minilm2",
    "minimum_class_confusion",
    "mixup",
    "mmd",
    "mmd2",
    "moment_distance",
    "moving_average",
    "multilinear_map",
    "negative_log_likelihood",
    "next_token",
    "norm_growth",
    "nuclear_norm_maximisation",
    "orthogonality",
    "osbp",
    "ot_map",
    "partial_class_weights",
    "proxy_a_distance",
    "pseudo_labels",
    "r3f",
    "randomized_map",
    "relation_kl",
    "relational_distillation",
    "reversal_schedule",
    "reverse_category_relationship",
    "reverse_gradient",
    "rkd",
    "scale_gradient",
    "score_mse",
    "shot",
    "shot_pseudo_labels",
    "sinkhorn_plan",
    "smallest_singular_values",
    "soft_cross_entropy",
    "softmax_cross_entropy",
    "span_cross_entropy",
    "squared_distances",
    "squared_feature_distance",
    "symmetric_kl",
    "tinybert",
    "transfer_labels",
    "unknown_cross_entropy",
    "vat",
    "wdgrl",
]
