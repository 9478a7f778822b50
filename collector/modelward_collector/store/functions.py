"""Functions that a person's SQL may call: pure ones, by topic. All others are refused (see ``gate``).

Left out on purpose: whatever reads beside our tables (file, dictGet, joinGet, getSetting, hostName, ...), waits
(sleep), fails on purpose (throwIf), calls out (ai*), compiles patterns whose cost no limit bounds (multiMatch*), takes
quadratic time for one value (editDistance: a time limit is looked at between blocks only), reads the state of an
aggregate from bytes (finalizeAggregation), or is a table function too (format: on the right of IN it would be one).
Names are compared in lower case, as many of the engine's have an alias that ignores case.
"""

from __future__ import annotations

import re

_OPERATORS = """
    plus minus multiply divide intDiv intDivOrZero modulo moduloOrZero positiveModulo negate abs gcd lcm
    equals notEquals less lessOrEquals greater greaterOrEquals isDistinctFrom isNotDistinctFrom and or not
    xor in notIn nullIn notNullIn globalIn globalNotIn exists if multiIf caseWithExpression greatest least
    clamp coalesce ifNull nullIf isNull isNotNull isZeroOrNull assumeNotNull toNullable transform bitAnd
    bitOr bitXor bitNot bitShiftLeft bitShiftRight bitTest bitCount identity materialize ignore like ilike
    notLike notILike
"""
_NUMBERS = """
    ceil ceiling floor round roundDown truncate trunc sqrt cbrt exp exp2 exp10 log ln log2 log10 pow power
    sign pi sin cos tan e isFinite isInfinite isNaN ifNotFinite min2 max2 intExp2 intExp10 rand rand32
    rand64 randCanonical randUniform widthBucket bar
"""
_TIME = """
    now now64 today yesterday toDate toDate32 toDateTime toDateTime32 toDateTime64 toDateOrNull toDateOrZero
    toDateTimeOrNull toDateTimeOrZero toDateTime64OrNull toDateTime64OrZero parseDateTime
    parseDateTimeBestEffort parseDateTimeBestEffortOrNull parseDateTime64BestEffort
    parseDateTime64BestEffortOrNull toYear toQuarter toMonth toDayOfMonth toDayOfWeek toDayOfYear toHour
    toMinute toSecond toMillisecond year month day hour minute second dayOfWeek dayOfMonth dayOfYear week
    toWeek toISOWeek toISOYear toMonday toYYYYMM toYYYYMMDD toYYYYMMDDhhmmss toStartOfYear toStartOfQuarter
    toStartOfMonth toStartOfWeek toStartOfDay toStartOfHour toStartOfMinute toStartOfSecond
    toStartOfMillisecond toStartOfFiveMinutes toStartOfFiveMinute toStartOfTenMinutes
    toStartOfFifteenMinutes toStartOfInterval toLastDayOfMonth toTime timeSlot timeSlots date_trunc
    dateTrunc date_diff dateDiff timestamp_diff timestampDiff age date_add dateAdd date_sub dateSub
    timestamp_add timestamp_sub addDate subDate addSeconds addMinutes addHours addDays addWeeks addMonths
    addQuarters addYears addMilliseconds addMicroseconds addNanoseconds addInterval subtractSeconds
    subtractMinutes subtractHours subtractDays subtractWeeks subtractMonths subtractQuarters subtractYears
    subtractMilliseconds subtractMicroseconds subtractNanoseconds subtractInterval formatDateTime dateName
    monthName toUnixTimestamp toUnixTimestamp64Second toUnixTimestamp64Milli toUnixTimestamp64Micro
    toUnixTimestamp64Nano fromUnixTimestamp fromUnixTimestamp64Second fromUnixTimestamp64Milli
    fromUnixTimestamp64Micro fromUnixTimestamp64Nano toTimeZone timeZoneOf makeDate makeDateTime
    makeDateTime64 toInterval toIntervalNanosecond toIntervalMicrosecond toIntervalMillisecond
    toIntervalSecond toIntervalMinute toIntervalHour toIntervalDay toIntervalWeek toIntervalMonth
    toIntervalQuarter toIntervalYear tumble tumbleStart tumbleEnd hop hopStart hopEnd
    formatReadableTimeDelta toRelativeSecondNum toRelativeMinuteNum toRelativeHourNum toRelativeDayNum date
    timestamp
"""
_CONVERSION = """
    cast _cast accurateCast accurateCastOrNull accurateCastOrDefault toString toFixedString toBool toUInt8
    toUInt16 toUInt32 toUInt64 toUInt128 toUInt256 toInt8 toInt16 toInt32 toInt64 toInt128 toInt256
    toFloat32 toFloat64 toDecimal32 toDecimal64 toDecimal128 toUInt8OrNull toUInt16OrNull toUInt32OrNull
    toUInt64OrNull toInt8OrNull toInt16OrNull toInt32OrNull toInt64OrNull toFloat32OrNull toFloat64OrNull
    toUInt8OrZero toUInt16OrZero toUInt32OrZero toUInt64OrZero toInt8OrZero toInt16OrZero toInt32OrZero
    toInt64OrZero toFloat32OrZero toFloat64OrZero toUInt64OrDefault toInt64OrDefault toLowCardinality toUUID
    toUUIDOrNull toTypeName toColumnTypeName reinterpretAsUInt64 reinterpretAsInt64 reinterpretAsString
    toIPv4 toIPv6 toIPv4OrNull toIPv6OrNull formatReadableSize formatReadableDecimalSize
    formatReadableQuantity hex unhex bin unbin char
"""
_TEXT = """
    length lengthUTF8 char_length character_length octet_length empty notEmpty lower upper lcase ucase
    lowerUTF8 upperUTF8 initcap reverse reverseUTF8 concat concatWithSeparator concat_ws substring substr
    mid substringUTF8 substringIndex left right leftUTF8 rightUTF8 lpad rpad leftPad rightPad leftPadUTF8
    rightPadUTF8 trim ltrim rtrim trimLeft trimRight trimBoth startsWith endsWith startsWithUTF8
    endsWithUTF8 startsWithCaseInsensitive endsWithCaseInsensitive repeat space position locate instr
    positionCaseInsensitive positionUTF8 positionCaseInsensitiveUTF8 multiSearchAny
    multiSearchAnyCaseInsensitive multiSearchFirstIndex multiSearchFirstPosition multiSearchAllPositions
    match matchCaseInsensitive notMatch extract extractAll extractGroups extractAllGroups
    extractAllGroupsVertical extractAllGroupsHorizontal regexpExtract regexp_extract regexp_replace replace
    replaceOne replaceAll replaceRegexpOne replaceRegexpAll regexpQuoteMeta translate countSubstrings
    countSubstringsCaseInsensitive countMatches countMatchesCaseInsensitive hasToken hasTokenCaseInsensitive
    hasSubsequence ascii basename isValidUTF8 toValidUTF8 normalizeUTF8NFC base64Encode base64Decode
    tryBase64Decode base64URLDecode splitByChar splitByString splitByRegexp splitByWhitespace
    splitByNonAlpha alphaTokens tokens ngrams ngramDistance ngramSearch stringBytesEntropy
    appendTrailingCharIfAbsent decodeURLComponent encodeURLComponent domain domainWithoutWWW topLevelDomain
    protocol path pathFull port queryString fragment cutQueryString extractURLParameter extractURLParameters
    URLHierarchy URLPathHierarchy isIPv4String isIPv6String isIPAddressInRange IPv4NumToString
    IPv4StringToNum IPv4StringToNumOrNull IPv6NumToString IPv6StringToNum IPv6StringToNumOrNull
    IPv4CIDRToRange IPv6CIDRToRange IPv4ToIPv6 cutIPv6 MD5 SHA1 SHA256 SHA512 CRC32 cityHash64 sipHash64
    sipHash128 xxHash32 xxHash64 xxh3 intHash32 intHash64 halfMD5 JSONExtract JSONExtractString
    JSONExtractInt JSONExtractUInt JSONExtractFloat JSONExtractBool JSONExtractRaw JSONExtractArrayRaw
    JSONExtractKeys JSONExtractKeysAndValues JSONHas JSONLength JSONType isValidJSON simpleJSONExtractString
    simpleJSONExtractInt toJSONString
"""
_ARRAYS = """
    array tuple tupleElement untuple tupleConcat lambda map mapKeys mapValues mapContains mapFromArrays
    arrayElement arrayElementOrNull arrayJoin arrayMap arrayFilter arrayExists arrayAll arrayCount
    arrayFirst arrayFirstIndex arrayFirstOrNull arrayLast arrayLastIndex arraySum arrayAvg arrayMin arrayMax
    arrayProduct arrayUniq arrayDistinct arraySort arrayReverseSort arrayReverse arrayConcat arraySlice
    arrayResize arrayPushBack arrayPushFront arrayPopBack arrayPopFront arrayEnumerate arrayEnumerateUniq
    arrayEnumerateDense arrayZip arrayFlatten flatten arrayCompact arrayDifference arrayCumSum
    arrayIntersect arrayUnion arrayExcept arrayStringConcat arraySplit arrayReverseSplit arrayReduce
    arrayWithConstant arrayRotateLeft arrayRotateRight array_to_string has hasAll hasAny hasSubstr indexOf
    countEqual range emptyArrayString emptyArrayUInt64 replicate cardinality
"""
_ROWS = """
    rowNumberInAllBlocks rowNumberInBlock grouping row_number rank dense_rank denseRank percent_rank
    percentRank cume_dist ntile lag lead lagInFrame leadInFrame nth_value first_value last_value
"""
_AGGREGATES = """
    count sum sumWithOverflow sumKahan sumCount avg avgWeighted min max any anyLast anyHeavy any_value
    argMin argMax min_by max_by uniq uniqExact uniqCombined uniqCombined64 uniqHLL12 uniqUpTo groupArray
    groupArrayLast groupArraySample groupArraySorted groupArrayIntersect groupArrayMovingAvg
    groupArrayMovingSum groupUniqArray groupConcat group_concat string_agg array_agg groupBitAnd groupBitOr
    groupBitXor topK topKWeighted approx_top_k approx_top_sum quantile quantiles quantileExact
    quantilesExact quantileExactLow quantileExactHigh quantileExactWeighted quantileTDigest quantilesTDigest
    quantileTDigestWeighted quantileTiming quantilesTiming quantileDeterministic quantileGK quantileDD
    median medianExact medianTDigest stddevPop stddevSamp stddev_pop stddev_samp varPop varSamp var_pop
    var_samp covarPop covarSamp corr skewPop skewSamp kurtPop kurtSamp entropy histogram
    simpleLinearRegression sequenceMatch sequenceCount sequenceNextNode windowFunnel retention deltaSum
    deltaSumTimestamp intervalLengthSum maxIntersections maxIntersectionsPosition sparkBar
    exponentialMovingAverage boundingRatio singleValueOrNull
"""

SCALARS = frozenset(
    name.lower() for topic in (_OPERATORS, _NUMBERS, _TIME, _CONVERSION, _TEXT, _ARRAYS, _ROWS) for name in topic.split()
)
AGGREGATES = frozenset(name.lower() for name in _AGGREGATES.split())
TABLE_FUNCTIONS = frozenset({"numbers", "zeros", "values", "generateseries", "generate_series"})

_COMBINATOR = re.compile(r"(if|array|distinct|foreach|ordefault|ornull|state|merge|argmin|argmax|map|resample)\Z")


def allowed(name: str) -> bool:
    """Whether a scalar, aggregate or window function may be called. ``sumIf``, ``uniqMergeState`` and the
    like follow their aggregate.
    """
    return name.lower() in SCALARS or aggregate(name)


def aggregate(name: str) -> bool:
    """Whether it is an aggregate function that may be called, with whatever combinators."""
    name = name.lower()
    while name not in AGGREGATES:
        shorter = _COMBINATOR.sub("", name)
        if shorter == name:
            return False
        name = shorter
    return True


def known() -> frozenset[str]:
    """All allowed names, for suggestions."""
    return SCALARS | AGGREGATES
