"""The APIs of Kafka 3.9 and 4.x, and how far they are understood here."""

from __future__ import annotations

from typing import Final

PRODUCE: Final = 0
FETCH: Final = 1
METADATA: Final = 3
CONTROLLED_SHUTDOWN: Final = 7
OFFSET_COMMIT: Final = 8
OFFSET_FETCH: Final = 9
FIND_COORDINATOR: Final = 10
JOIN_GROUP: Final = 11
HEARTBEAT: Final = 12
LEAVE_GROUP: Final = 13
SYNC_GROUP: Final = 14
SASL_HANDSHAKE: Final = 17
API_VERSIONS: Final = 18
TXN_OFFSET_COMMIT: Final = 28
DESCRIBE_CLUSTER: Final = 60
CONSUMER_GROUP_HEARTBEAT: Final = 68
SHARE_GROUP_HEARTBEAT: Final = 76
SHARE_FETCH: Final = 78
SHARE_ACKNOWLEDGE: Final = 79

NEVER: Final = 1 << 15
"""The first flexible version of an API that has none."""


class Api:
    """One API.

    From version ``first_flexible`` on, its messages are in the compact encoding with tagged fields.
    ``newest`` is the newest version that is understood, None when its messages only pass.
    """

    __slots__ = ("first_flexible", "key", "name", "newest")

    def __init__(self, key: int, name: str, first_flexible: int, newest: int | None = None) -> None:
        self.key = key
        self.name = name
        self.first_flexible = first_flexible
        self.newest = newest


APIS: Final = {
    api.key: api
    for api in (
        Api(PRODUCE, "Produce", 9, 13),
        Api(FETCH, "Fetch", 12, 18),
        Api(2, "ListOffsets", 6),
        Api(METADATA, "Metadata", 9, 13),
        # 4 to 7 are spoken by brokers with ZooKeeper only, up to 3.9.
        Api(4, "LeaderAndIsr", 4),
        Api(5, "StopReplica", 2),
        Api(6, "UpdateMetadata", 6),
        Api(CONTROLLED_SHUTDOWN, "ControlledShutdown", 3),
        Api(OFFSET_COMMIT, "OffsetCommit", 8, 10),
        Api(OFFSET_FETCH, "OffsetFetch", 6, 10),
        Api(FIND_COORDINATOR, "FindCoordinator", 3, 6),
        Api(JOIN_GROUP, "JoinGroup", 6, 9),
        Api(HEARTBEAT, "Heartbeat", 4, 4),
        Api(LEAVE_GROUP, "LeaveGroup", 4, 5),
        Api(SYNC_GROUP, "SyncGroup", 4, 5),
        Api(15, "DescribeGroups", 5),
        Api(16, "ListGroups", 3),
        Api(SASL_HANDSHAKE, "SaslHandshake", NEVER, 1),
        Api(API_VERSIONS, "ApiVersions", 3, 4),
        Api(19, "CreateTopics", 5),
        Api(20, "DeleteTopics", 4),
        Api(21, "DeleteRecords", 2),
        Api(22, "InitProducerId", 2),
        Api(23, "OffsetForLeaderEpoch", 4),
        Api(24, "AddPartitionsToTxn", 3),
        Api(25, "AddOffsetsToTxn", 3),
        Api(26, "EndTxn", 3),
        Api(27, "WriteTxnMarkers", 1),
        Api(TXN_OFFSET_COMMIT, "TxnOffsetCommit", 3, 5),
        Api(29, "DescribeAcls", 2),
        Api(30, "CreateAcls", 2),
        Api(31, "DeleteAcls", 2),
        Api(32, "DescribeConfigs", 4),
        Api(33, "AlterConfigs", 2),
        Api(34, "AlterReplicaLogDirs", 2),
        Api(35, "DescribeLogDirs", 2),
        Api(36, "SaslAuthenticate", 2),
        Api(37, "CreatePartitions", 2),
        Api(38, "CreateDelegationToken", 2),
        Api(39, "RenewDelegationToken", 2),
        Api(40, "ExpireDelegationToken", 2),
        Api(41, "DescribeDelegationToken", 2),
        Api(42, "DeleteGroups", 2),
        Api(43, "ElectLeaders", 2),
        Api(44, "IncrementalAlterConfigs", 1),
        Api(45, "AlterPartitionReassignments", 0),
        Api(46, "ListPartitionReassignments", 0),
        Api(47, "OffsetDelete", NEVER),
        Api(48, "DescribeClientQuotas", 1),
        Api(49, "AlterClientQuotas", 1),
        Api(50, "DescribeUserScramCredentials", 0),
        Api(51, "AlterUserScramCredentials", 0),
        Api(52, "Vote", 0),
        Api(53, "BeginQuorumEpoch", 1),
        Api(54, "EndQuorumEpoch", 1),
        Api(55, "DescribeQuorum", 0),
        Api(56, "AlterPartition", 0),
        Api(57, "UpdateFeatures", 0),
        Api(58, "Envelope", 0),
        Api(59, "FetchSnapshot", 0),
        Api(DESCRIBE_CLUSTER, "DescribeCluster", 0, 2),
        Api(61, "DescribeProducers", 0),
        Api(62, "BrokerRegistration", 0),
        Api(63, "BrokerHeartbeat", 0),
        Api(64, "UnregisterBroker", 0),
        Api(65, "DescribeTransactions", 0),
        Api(66, "ListTransactions", 0),
        Api(67, "AllocateProducerIds", 0),
        Api(CONSUMER_GROUP_HEARTBEAT, "ConsumerGroupHeartbeat", 0, 1),
        Api(69, "ConsumerGroupDescribe", 0),
        Api(70, "ControllerRegistration", 0),
        Api(71, "GetTelemetrySubscriptions", 0),
        Api(72, "PushTelemetry", 0),
        Api(73, "AssignReplicasToDirs", 0),
        Api(74, "ListConfigResources", 0),
        Api(75, "DescribeTopicPartitions", 0),
        Api(SHARE_GROUP_HEARTBEAT, "ShareGroupHeartbeat", 0),
        Api(77, "ShareGroupDescribe", 0),
        Api(SHARE_FETCH, "ShareFetch", 0),
        Api(SHARE_ACKNOWLEDGE, "ShareAcknowledge", 0),
        Api(80, "AddRaftVoter", 0),
        Api(81, "RemoveRaftVoter", 0),
        Api(82, "UpdateRaftVoter", 0),
        Api(83, "InitializeShareGroupState", 0),
        Api(84, "ReadShareGroupState", 0),
        Api(85, "WriteShareGroupState", 0),
        Api(86, "DeleteShareGroupState", 0),
        Api(87, "ReadShareGroupStateSummary", 0),
        Api(88, "StreamsGroupHeartbeat", 0),
        Api(89, "StreamsGroupDescribe", 0),
        Api(90, "DescribeShareGroupOffsets", 0),
        Api(91, "AlterShareGroupOffsets", 0),
        Api(92, "DeleteShareGroupOffsets", 0),
    )
}
"""By key."""

CONCEALED: Final = frozenset({SHARE_GROUP_HEARTBEAT, SHARE_FETCH, SHARE_ACKNOWLEDGE})
"""APIs kept from clients: answers of the latter two carry addresses of brokers, which are not
replaced. Without the first, clients say that share groups are not supported; they do not wait."""


def flexible(key: int, version: int) -> bool:
    """Whether a message is in the compact encoding. False for APIs that are not known."""
    api = APIS.get(key)
    return api is not None and version >= api.first_flexible


def understood(key: int, version: int) -> bool:
    """Whether messages of this API and version can be read here."""
    api = APIS.get(key)
    return api is not None and api.newest is not None and 0 <= version <= api.newest
