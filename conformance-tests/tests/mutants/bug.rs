//! What can be wrong with a backend, one at a time.

macro_rules! bugs {
    ($($bug:ident $profile:literal $what:literal,)*) => {
        /// One bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Bug {
            /// A backend without a bug, to see that all cases pass.
            Nothing,
            $(#[doc = $what] $bug,)*
        }

        /// Each bug with the profile of the queue that has it.
        pub(crate) const BUGS: &[(Bug, &str)] = &[$((Bug::$bug, $profile)),*];
    };
}

bugs! {
    // Sending.
    FailedEntryReportedAsSent "strict" "Every second entry of a batch is not sent, and Ok.",
    EveryFifthLost "strict" "Every fifth message is accepted and lost.",
    ResultsReversed "strict" "The results of a batch are in the wrong order.",
    SameIdForAll "strict" "All messages have the same id.",
    MessagesDieWithProducer "strict" "Closing a producer removes what it sent.",
    EncodedLenWithoutAttributes "strict" "Attributes are not counted.",
    DelayIgnored "strict" "Messages are visible at once.",
    DelayDoubled "strict" "Delays are twice as long.",
    DedupForgets "strict" "Deduplication ids are not looked at.",
    DedupForEver "strict" "Deduplication ids are never forgotten.",
    DedupOfEverything "strict" "All deduplication ids are the same.",
    BatchSentBackwards "strict" "The last of a batch is sent first.",
    KeyNotLocked "strict" "The next message of a key does not wait for the one under way.",
    OneKeyForAll "strict" "All keys are the same.",
    DeadLetteredTwice "strict" "Dead letters are sent twice.",
    DeadLetterLosesAttributes "strict" "Dead letters have no attributes.",
    FailureRecordDropped "strict" "Dead letters do not say why.",
    // What comes out.
    BodyTrimmed "strict" "Space around bodies is removed.",
    BodyLossy "strict" "Bodies that are not UTF-8 are mangled.",
    BodyCut "strict" "Bodies end after 256 KiB.",
    EmojiReplaced "strict" "Characters outside of the basic plane are replaced.",
    EmptyBodyFilled "strict" "Empty bodies are not empty.",
    AttributesDropped "strict" "Attributes do not come out.",
    AttributeNamesLowered "strict" "The case of attribute names is lost.",
    TenAttributes "strict" "More than ten attributes are dropped.",
    AttributeValuesCut "strict" "Attribute values end after 2,000 bytes.",
    EmptyAttributesDropped "strict" "Attributes without a value are dropped.",
    OrderingKeyDropped "strict" "The ordering key does not come out.",
    KeyOfEachAttempt "strict" "Each attempt has another idempotency key.",
    AttemptStuck "strict" "Each attempt is the first.",
    SentLongAgo "strict" "The time of sending is wrong.",
    // Receiving.
    WaitIgnored "strict" "A receive on an empty queue returns at once.",
    WaitUnbounded "strict" "A receive on an empty queue never returns.",
    ZeroWaitWaits "strict" "A look takes five seconds.",
    LooksAfterTheWait "strict" "A receive looks when its wait is over.",
    MaxIgnored "strict" "A receive returns more than asked for.",
    CancelledReceiveLoses "strict" "Dropping a receive strands what it fetched.",
    HandedOutTwice "strict" "A leased message is handed out again.",
    OneAtATime "strict" "Nothing is handed out while something is held.",
    // Settling.
    AckIgnored "strict" "An ack does nothing.",
    LateAckDeletes "sqs" "An ack with a lost lease removes what another holds.",
    LateAckIsOk "strict" "An ack with a lost lease is Ok.",
    SecondAckIsUnknown "strict" "An ack with a lost lease is an unknown error.",
    AcksLostAtClose "strict" "Acks are buffered, and forgotten by close.",
    NackIgnored "strict" "A nack does nothing.",
    NackDelayIgnored "strict" "A nack is always at once.",
    NackDelayDoubled "strict" "Delays of nacks are twice as long.",
    NackGoesToTheEnd "strict" "A nacked message is put behind the others of its key.",
    BadReceiptSpoilsBatch "strict" "One bad receipt fails the whole batch.",
    ForeignReceiptTaken "strict" "Receipts of others are settled, with Ok.",
    // Leases.
    LeaseNeverEnds "strict" "A message whose consumer crashed never comes back.",
    LeaseEndsEarly "strict" "Leases last half as long as claimed.",
    LeaseOverclaimed "strict" "Leases are claimed to be twice as long.",
    ExtendDoesNothing "strict" "An extension is Ok and does nothing.",
    ExtendForADay "strict" "An extension lasts much longer than asked for.",
    ExtendOfLostIsOk "strict" "Extending a lost lease is Ok: nobody is told.",
    ExtendUnsupported "strict" "Leases are claimed to be extended, and cannot be.",
    // Administration.
    EnsureAlwaysChanges "strict" "ensure always reports a change.",
    PlanCreates "strict" "A plan creates the queue.",
    CreateOverwrites "strict" "Create changes a live queue.",
    ApplyDoesNothing "strict" "Apply changes nothing.",
    InspectInvents "strict" "inspect tells a lease that is not there.",
    InspectHidesPolicy "strict" "inspect does not tell the dead-letter policy.",
    RetentionIgnored "strict" "The retention is silently ignored.",
    PurgeLeavesOne "strict" "A purge leaves a message.",
    PurgeDeletes "strict" "A purge deletes the queue.",
    DepthLies "strict" "The depth is one too many.",
    AgeMissing "strict" "The age of the oldest message is not told.",
    DeleteDoesNothing "strict" "A deleted queue stays.",
    DeleteTakesDeadLetters "strict" "Deleting a queue deletes its dead-letter queue.",
    // Errors.
    MissingIsCreated "strict" "A missing queue is created by opening it.",
    DeletedLooksEmpty "strict" "Receiving from a deleted queue finds nothing.",
    ClosedStillWorks "strict" "close does nothing.",
    CloseHangs "strict" "Closing a consumer never ends.",
    ErrorsAreAnonymous "strict" "Errors do not say who failed at what.",
    UnreachableIsFinal "strict" "Nobody answers, and that is not worth a retry.",
    DeniedIsRetryable "strict" "Refused credentials are worth a retry.",
    CutStopsReceiving "strict" "After a cut nothing is received.",
    CutStopsSending "strict" "After a cut nothing is sent.",
    // Claims.
    OrderingOverclaimed "sqs" "Ordering is claimed and not there.",
    PolicyOverclaimed "strict" "A dead-letter policy is claimed and not there.",
    SizeOverclaimed "sqs" "Twice the size is claimed.",
    AttributesOverclaimed "sqs" "Twice as many attributes are claimed.",
    BatchOverclaimed "sqs" "Batches are claimed to be twice as large.",
    DelayOverclaimed "sqs" "Twice the delay is claimed.",
    NackDelayOverclaimed "sqs" "Twice the delay of nacks is claimed.",
    AttemptsUnderclaimed "strict" "Attempts are told and not claimed.",
    DepthUnderclaimed "strict" "The depth is told and not claimed.",
}
