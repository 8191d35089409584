"""The same handlers on NVFlare, for NeuroFLAME: provisioning, the centre's container, a site's container.

A site's job process keeps one handler (`node.Site`) and answers the tasks that the centre's job process
(`controller.MeshNetController`) broadcasts; what travels is a `packet.Packet`. Only `executor`, `controller`,
`launcher`, `kits` and `session` import NVFlare; the platform starts the scripts in `system`.
"""
