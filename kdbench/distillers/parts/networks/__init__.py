"""Networks that single methods bring along.

- diffusion: A student's feature denoised towards the teacher's: noise adapter, noise network, deterministic steps (DiffKD).
- hcd: HCD's networks: from a student's stage to a vector, and from both vectors to sub-logits (Xu et al., AAAI 2026).
- pat: Modules of perspective-aware teaching: blending of the student's stages, alignment, prompts of the teacher.
"""
