from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Node(_message.Message):
    __slots__ = ("id", "address", "key", "role", "device", "memory", "cores", "latitude", "longitude", "placed", "disk", "busy", "round_trip")
    ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    CORES_FIELD_NUMBER: _ClassVar[int]
    LATITUDE_FIELD_NUMBER: _ClassVar[int]
    LONGITUDE_FIELD_NUMBER: _ClassVar[int]
    PLACED_FIELD_NUMBER: _ClassVar[int]
    DISK_FIELD_NUMBER: _ClassVar[int]
    BUSY_FIELD_NUMBER: _ClassVar[int]
    ROUND_TRIP_FIELD_NUMBER: _ClassVar[int]
    id: str
    address: str
    key: bytes
    role: str
    device: str
    memory: float
    cores: int
    latitude: float
    longitude: float
    placed: bool
    disk: float
    busy: bool
    round_trip: float
    def __init__(self, id: _Optional[str] = ..., address: _Optional[str] = ..., key: _Optional[bytes] = ..., role: _Optional[str] = ..., device: _Optional[str] = ..., memory: _Optional[float] = ..., cores: _Optional[int] = ..., latitude: _Optional[float] = ..., longitude: _Optional[float] = ..., placed: bool = ..., disk: _Optional[float] = ..., busy: bool = ..., round_trip: _Optional[float] = ...) -> None: ...

class DiscoveryRequest(_message.Message):
    __slots__ = ("peersRequested", "device", "memory", "cores", "latitude", "longitude", "placed", "distance")
    PEERSREQUESTED_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    CORES_FIELD_NUMBER: _ClassVar[int]
    LATITUDE_FIELD_NUMBER: _ClassVar[int]
    LONGITUDE_FIELD_NUMBER: _ClassVar[int]
    PLACED_FIELD_NUMBER: _ClassVar[int]
    DISTANCE_FIELD_NUMBER: _ClassVar[int]
    peersRequested: int
    device: str
    memory: float
    cores: int
    latitude: float
    longitude: float
    placed: bool
    distance: float
    def __init__(self, peersRequested: _Optional[int] = ..., device: _Optional[str] = ..., memory: _Optional[float] = ..., cores: _Optional[int] = ..., latitude: _Optional[float] = ..., longitude: _Optional[float] = ..., placed: bool = ..., distance: _Optional[float] = ...) -> None: ...

class DiscoveryResponse(_message.Message):
    __slots__ = ("callerAddr", "availablePeers", "redirect", "redirectKey")
    CALLERADDR_FIELD_NUMBER: _ClassVar[int]
    AVAILABLEPEERS_FIELD_NUMBER: _ClassVar[int]
    REDIRECT_FIELD_NUMBER: _ClassVar[int]
    REDIRECTKEY_FIELD_NUMBER: _ClassVar[int]
    callerAddr: str
    availablePeers: _containers.RepeatedCompositeFieldContainer[Node]
    redirect: str
    redirectKey: bytes
    def __init__(self, callerAddr: _Optional[str] = ..., availablePeers: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., redirect: _Optional[str] = ..., redirectKey: _Optional[bytes] = ...) -> None: ...

class Registration(_message.Message):
    __slots__ = ("node", "leave")
    NODE_FIELD_NUMBER: _ClassVar[int]
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    node: Node
    leave: bool
    def __init__(self, node: _Optional[_Union[Node, _Mapping]] = ..., leave: bool = ...) -> None: ...

class RegistrationResponse(_message.Message):
    __slots__ = ("callerAddr", "lease", "redirect", "redirectKey")
    CALLERADDR_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    REDIRECT_FIELD_NUMBER: _ClassVar[int]
    REDIRECTKEY_FIELD_NUMBER: _ClassVar[int]
    callerAddr: str
    lease: float
    redirect: str
    redirectKey: bytes
    def __init__(self, callerAddr: _Optional[str] = ..., lease: _Optional[float] = ..., redirect: _Optional[str] = ..., redirectKey: _Optional[bytes] = ...) -> None: ...

class TaskRequest(_message.Message):
    __slots__ = ("numWorkers", "leaderUuid", "assignedWorkers", "numEpochs", "glob", "indexFile", "task", "model", "configuration", "batchSize", "learningRate", "seed", "host", "port", "user", "password", "certificate", "dataBytes", "step", "raw", "staleness", "aggregations")
    NUMWORKERS_FIELD_NUMBER: _ClassVar[int]
    LEADERUUID_FIELD_NUMBER: _ClassVar[int]
    ASSIGNEDWORKERS_FIELD_NUMBER: _ClassVar[int]
    NUMEPOCHS_FIELD_NUMBER: _ClassVar[int]
    GLOB_FIELD_NUMBER: _ClassVar[int]
    INDEXFILE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    BATCHSIZE_FIELD_NUMBER: _ClassVar[int]
    LEARNINGRATE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    DATABYTES_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    STALENESS_FIELD_NUMBER: _ClassVar[int]
    AGGREGATIONS_FIELD_NUMBER: _ClassVar[int]
    numWorkers: int
    leaderUuid: str
    assignedWorkers: _containers.RepeatedCompositeFieldContainer[Node]
    numEpochs: int
    glob: str
    indexFile: str
    task: str
    model: str
    configuration: str
    batchSize: int
    learningRate: float
    seed: int
    host: str
    port: int
    user: str
    password: str
    certificate: str
    dataBytes: float
    step: str
    raw: bool
    staleness: int
    aggregations: int
    def __init__(self, numWorkers: _Optional[int] = ..., leaderUuid: _Optional[str] = ..., assignedWorkers: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., numEpochs: _Optional[int] = ..., glob: _Optional[str] = ..., indexFile: _Optional[str] = ..., task: _Optional[str] = ..., model: _Optional[str] = ..., configuration: _Optional[str] = ..., batchSize: _Optional[int] = ..., learningRate: _Optional[float] = ..., seed: _Optional[int] = ..., host: _Optional[str] = ..., port: _Optional[int] = ..., user: _Optional[str] = ..., password: _Optional[str] = ..., certificate: _Optional[str] = ..., dataBytes: _Optional[float] = ..., step: _Optional[str] = ..., raw: bool = ..., staleness: _Optional[int] = ..., aggregations: _Optional[int] = ...) -> None: ...

class TaskResponse(_message.Message):
    __slots__ = ("state", "complete", "status", "reason", "metrics", "lease", "addresses", "seconds")
    STATE_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    state: bytes
    complete: bool
    status: str
    reason: str
    metrics: str
    lease: float
    addresses: _containers.RepeatedScalarFieldContainer[str]
    seconds: float
    def __init__(self, state: _Optional[bytes] = ..., complete: bool = ..., status: _Optional[str] = ..., reason: _Optional[str] = ..., metrics: _Optional[str] = ..., lease: _Optional[float] = ..., addresses: _Optional[_Iterable[str]] = ..., seconds: _Optional[float] = ...) -> None: ...

class ModelStateDictParams(_message.Message):
    __slots__ = ("state", "complete")
    STATE_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    state: bytes
    complete: bool
    def __init__(self, state: _Optional[bytes] = ..., complete: bool = ...) -> None: ...

class Acknowledgement(_message.Message):
    __slots__ = ("note",)
    NOTE_FIELD_NUMBER: _ClassVar[int]
    note: str
    def __init__(self, note: _Optional[str] = ...) -> None: ...

class PayloadMessage(_message.Message):
    __slots__ = ("id", "senderId", "senderIpAddress", "payloadType", "discoveryRequest", "discoveryResponse", "registration", "registrationResponse", "taskRequest", "taskResponse", "modelStateDictParams", "acknowledgement")
    ID_FIELD_NUMBER: _ClassVar[int]
    SENDERID_FIELD_NUMBER: _ClassVar[int]
    SENDERIPADDRESS_FIELD_NUMBER: _ClassVar[int]
    PAYLOADTYPE_FIELD_NUMBER: _ClassVar[int]
    DISCOVERYREQUEST_FIELD_NUMBER: _ClassVar[int]
    DISCOVERYRESPONSE_FIELD_NUMBER: _ClassVar[int]
    REGISTRATION_FIELD_NUMBER: _ClassVar[int]
    REGISTRATIONRESPONSE_FIELD_NUMBER: _ClassVar[int]
    TASKREQUEST_FIELD_NUMBER: _ClassVar[int]
    TASKRESPONSE_FIELD_NUMBER: _ClassVar[int]
    MODELSTATEDICTPARAMS_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGEMENT_FIELD_NUMBER: _ClassVar[int]
    id: str
    senderId: str
    senderIpAddress: str
    payloadType: int
    discoveryRequest: DiscoveryRequest
    discoveryResponse: DiscoveryResponse
    registration: Registration
    registrationResponse: RegistrationResponse
    taskRequest: TaskRequest
    taskResponse: TaskResponse
    modelStateDictParams: ModelStateDictParams
    acknowledgement: Acknowledgement
    def __init__(self, id: _Optional[str] = ..., senderId: _Optional[str] = ..., senderIpAddress: _Optional[str] = ..., payloadType: _Optional[int] = ..., discoveryRequest: _Optional[_Union[DiscoveryRequest, _Mapping]] = ..., discoveryResponse: _Optional[_Union[DiscoveryResponse, _Mapping]] = ..., registration: _Optional[_Union[Registration, _Mapping]] = ..., registrationResponse: _Optional[_Union[RegistrationResponse, _Mapping]] = ..., taskRequest: _Optional[_Union[TaskRequest, _Mapping]] = ..., taskResponse: _Optional[_Union[TaskResponse, _Mapping]] = ..., modelStateDictParams: _Optional[_Union[ModelStateDictParams, _Mapping]] = ..., acknowledgement: _Optional[_Union[Acknowledgement, _Mapping]] = ...) -> None: ...
