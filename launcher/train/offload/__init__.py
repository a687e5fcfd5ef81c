"""ZeRO with an optimizer in host memory, faster and in less memory than DeepSpeed 0.19.8 has it.

DeepSpeed's own engine trains: these classes inherit from its ZeRO optimizers and replace how gradients come to the host
and how the update goes over them there. What is computed stays the same.
"""
