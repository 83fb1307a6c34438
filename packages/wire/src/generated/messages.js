/* oxlint-disable */
/*eslint-disable block-scoped-var, id-length, no-control-regex, no-magic-numbers, no-mixed-operators, no-prototype-builtins, no-redeclare, no-shadow, no-var, sort-vars, default-case, jsdoc/require-param*/
import $protobuf from "protobufjs/minimal.js";

const $Reader = $protobuf.Reader, $Writer = $protobuf.Writer, $util = $protobuf.util;
const $Object = $util.global.Object, $undefined = $util.global.undefined, $Error = $util.global.Error, $RangeError = $util.global.RangeError;

const $root = $protobuf.roots["default"] || ($protobuf.roots["default"] = {});

export const murmuration = $root.murmuration = (() => {

    const murmuration = {};

    murmuration.wire = (function() {

        const wire = {};

        wire.v1 = (function() {

            const v1 = {};

            v1.Action = (function() {
                const valuesById = $Object.create(null), values = $Object.create(valuesById);
                values[valuesById[0] = "ACTION_UNSPECIFIED"] = 0;
                values[valuesById[1] = "ACTION_RETRY"] = 1;
                values[valuesById[2] = "ACTION_RETRY_LATER"] = 2;
                values[valuesById[3] = "ACTION_FIX_AND_RESEND"] = 3;
                values[valuesById[4] = "ACTION_REPAIR_DEVICES"] = 4;
                values[valuesById[5] = "ACTION_RE_REGISTER"] = 5;
                values[valuesById[6] = "ACTION_GIVE_UP"] = 6;
                return values;
            })();

            v1.Rejection = (function() {

                const Rejection = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                Rejection.prototype.code = "";
                Rejection.prototype.action = 0;
                Rejection.prototype.retryAfterMs = null;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(Rejection.prototype, "_retryAfterMs", {
                    get: $util.oneOfGetter($oneOfFields = ["retryAfterMs"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                Rejection.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.code != null && $Object.hasOwnProperty.call(message, "code") && message.code !== "")
                        writer.uint32(10).string(message.code);
                    if (message.action != null && $Object.hasOwnProperty.call(message, "action") && message.action !== 0)
                        writer.uint32(16).int32(message.action);
                    if (message.retryAfterMs != null && $Object.hasOwnProperty.call(message, "retryAfterMs"))
                        writer.uint32(24).uint32(message.retryAfterMs);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                Rejection.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.Rejection();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.stringVerify()).length)
                                    message.code = value;
                                else
                                    delete message.code;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.int32())
                                    message.action = value;
                                else
                                    delete message.action;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 0)
                                    break;
                                message.retryAfterMs = reader.uint32();
                                message._retryAfterMs = "retryAfterMs";
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return Rejection;
            })();

            v1.DeviceAuth = (function() {

                const DeviceAuth = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                DeviceAuth.prototype.accountId = $util.newBuffer([]);
                DeviceAuth.prototype.deviceId = 0;
                DeviceAuth.prototype.token = $util.newBuffer([]);

                DeviceAuth.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.accountId != null && $Object.hasOwnProperty.call(message, "accountId") && message.accountId.length)
                        writer.uint32(10).bytes(message.accountId);
                    if (message.deviceId != null && $Object.hasOwnProperty.call(message, "deviceId") && message.deviceId !== 0)
                        writer.uint32(16).uint32(message.deviceId);
                    if (message.token != null && $Object.hasOwnProperty.call(message, "token") && message.token.length)
                        writer.uint32(26).bytes(message.token);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                DeviceAuth.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.DeviceAuth();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.accountId = value;
                                else
                                    delete message.accountId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.deviceId = value;
                                else
                                    delete message.deviceId;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.token = value;
                                else
                                    delete message.token;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return DeviceAuth;
            })();

            v1.SignedPreKey = (function() {

                const SignedPreKey = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                SignedPreKey.prototype.keyId = 0;
                SignedPreKey.prototype.publicKey = $util.newBuffer([]);
                SignedPreKey.prototype.signature = $util.newBuffer([]);

                SignedPreKey.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.keyId != null && $Object.hasOwnProperty.call(message, "keyId") && message.keyId !== 0)
                        writer.uint32(8).uint32(message.keyId);
                    if (message.publicKey != null && $Object.hasOwnProperty.call(message, "publicKey") && message.publicKey.length)
                        writer.uint32(18).bytes(message.publicKey);
                    if (message.signature != null && $Object.hasOwnProperty.call(message, "signature") && message.signature.length)
                        writer.uint32(26).bytes(message.signature);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                SignedPreKey.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.SignedPreKey();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.keyId = value;
                                else
                                    delete message.keyId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.publicKey = value;
                                else
                                    delete message.publicKey;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.signature = value;
                                else
                                    delete message.signature;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return SignedPreKey;
            })();

            v1.OneTimePreKey = (function() {

                const OneTimePreKey = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                OneTimePreKey.prototype.keyId = 0;
                OneTimePreKey.prototype.publicKey = $util.newBuffer([]);

                OneTimePreKey.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.keyId != null && $Object.hasOwnProperty.call(message, "keyId") && message.keyId !== 0)
                        writer.uint32(8).uint32(message.keyId);
                    if (message.publicKey != null && $Object.hasOwnProperty.call(message, "publicKey") && message.publicKey.length)
                        writer.uint32(18).bytes(message.publicKey);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                OneTimePreKey.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.OneTimePreKey();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.keyId = value;
                                else
                                    delete message.keyId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.publicKey = value;
                                else
                                    delete message.publicKey;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return OneTimePreKey;
            })();

            v1.KyberPreKey = (function() {

                const KyberPreKey = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                KyberPreKey.prototype.keyId = 0;
                KyberPreKey.prototype.publicKey = $util.newBuffer([]);
                KyberPreKey.prototype.signature = $util.newBuffer([]);

                KyberPreKey.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.keyId != null && $Object.hasOwnProperty.call(message, "keyId") && message.keyId !== 0)
                        writer.uint32(8).uint32(message.keyId);
                    if (message.publicKey != null && $Object.hasOwnProperty.call(message, "publicKey") && message.publicKey.length)
                        writer.uint32(18).bytes(message.publicKey);
                    if (message.signature != null && $Object.hasOwnProperty.call(message, "signature") && message.signature.length)
                        writer.uint32(26).bytes(message.signature);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                KyberPreKey.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.KyberPreKey();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.keyId = value;
                                else
                                    delete message.keyId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.publicKey = value;
                                else
                                    delete message.publicKey;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.signature = value;
                                else
                                    delete message.signature;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return KyberPreKey;
            })();

            v1.Frame = (function() {

                const Frame = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                Frame.prototype.requestId = 0;
                Frame.prototype.hello = null;
                Frame.prototype.acknowledge = null;
                Frame.prototype.submitSealed = null;
                Frame.prototype.submitIdentified = null;
                Frame.prototype.ping = null;
                Frame.prototype.helloReply = null;
                Frame.prototype.deliver = null;
                Frame.prototype.queueEmpty = null;
                Frame.prototype.resumeHint = null;
                Frame.prototype.drain = null;
                Frame.prototype.submitAccepted = null;
                Frame.prototype.submitMismatch = null;
                Frame.prototype.acknowledged = null;
                Frame.prototype.pong = null;
                Frame.prototype.preKeysLow = null;
                Frame.prototype.rejection = null;
                Frame.prototype.keyPackagesLow = null;
                Frame.prototype.groupCreate = null;
                Frame.prototype.groupAccess = null;
                Frame.prototype.groupAcknowledge = null;
                Frame.prototype.groupSubmit = null;
                Frame.prototype.groupCommit = null;
                Frame.prototype.groupPropose = null;
                Frame.prototype.groupTurnRelease = null;
                Frame.prototype.groupInfoRequest = null;
                Frame.prototype.groupBan = null;
                Frame.prototype.groupRefuse = null;
                Frame.prototype.groupRefeed = null;
                Frame.prototype.groupPushHandle = null;
                Frame.prototype.groupCreated = null;
                Frame.prototype.groupAccessGranted = null;
                Frame.prototype.groupEntries = null;
                Frame.prototype.groupSubmitAccepted = null;
                Frame.prototype.groupCommitAccepted = null;
                Frame.prototype.groupCommitLost = null;
                Frame.prototype.groupProposeAccepted = null;
                Frame.prototype.groupTurn = null;
                Frame.prototype.groupInfoReply = null;
                Frame.prototype.groupDone = null;

                let $oneOfFields;

                $Object.defineProperty(Frame.prototype, "body", {
                    get: $util.oneOfGetter($oneOfFields = ["hello", "acknowledge", "submitSealed", "submitIdentified", "ping", "helloReply", "deliver", "queueEmpty", "resumeHint", "drain", "submitAccepted", "submitMismatch", "acknowledged", "pong", "preKeysLow", "rejection", "keyPackagesLow", "groupCreate", "groupAccess", "groupAcknowledge", "groupSubmit", "groupCommit", "groupPropose", "groupTurnRelease", "groupInfoRequest", "groupBan", "groupRefuse", "groupRefeed", "groupPushHandle", "groupCreated", "groupAccessGranted", "groupEntries", "groupSubmitAccepted", "groupCommitAccepted", "groupCommitLost", "groupProposeAccepted", "groupTurn", "groupInfoReply", "groupDone"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                Frame.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.requestId != null && $Object.hasOwnProperty.call(message, "requestId") && message.requestId !== 0)
                        writer.uint32(8).uint32(message.requestId);
                    if (message.hello != null && $Object.hasOwnProperty.call(message, "hello"))
                        $root.murmuration.wire.v1.Hello.encode(message.hello, writer.uint32(130).fork(), _depth + 1).ldelim();
                    if (message.acknowledge != null && $Object.hasOwnProperty.call(message, "acknowledge"))
                        $root.murmuration.wire.v1.Acknowledge.encode(message.acknowledge, writer.uint32(138).fork(), _depth + 1).ldelim();
                    if (message.submitSealed != null && $Object.hasOwnProperty.call(message, "submitSealed"))
                        $root.murmuration.wire.v1.SubmitSealed.encode(message.submitSealed, writer.uint32(146).fork(), _depth + 1).ldelim();
                    if (message.submitIdentified != null && $Object.hasOwnProperty.call(message, "submitIdentified"))
                        $root.murmuration.wire.v1.SubmitIdentified.encode(message.submitIdentified, writer.uint32(154).fork(), _depth + 1).ldelim();
                    if (message.ping != null && $Object.hasOwnProperty.call(message, "ping"))
                        $root.murmuration.wire.v1.Ping.encode(message.ping, writer.uint32(162).fork(), _depth + 1).ldelim();
                    if (message.helloReply != null && $Object.hasOwnProperty.call(message, "helloReply"))
                        $root.murmuration.wire.v1.HelloReply.encode(message.helloReply, writer.uint32(322).fork(), _depth + 1).ldelim();
                    if (message.deliver != null && $Object.hasOwnProperty.call(message, "deliver"))
                        $root.murmuration.wire.v1.Deliver.encode(message.deliver, writer.uint32(330).fork(), _depth + 1).ldelim();
                    if (message.queueEmpty != null && $Object.hasOwnProperty.call(message, "queueEmpty"))
                        $root.murmuration.wire.v1.QueueEmpty.encode(message.queueEmpty, writer.uint32(338).fork(), _depth + 1).ldelim();
                    if (message.resumeHint != null && $Object.hasOwnProperty.call(message, "resumeHint"))
                        $root.murmuration.wire.v1.ResumeHint.encode(message.resumeHint, writer.uint32(346).fork(), _depth + 1).ldelim();
                    if (message.drain != null && $Object.hasOwnProperty.call(message, "drain"))
                        $root.murmuration.wire.v1.Drain.encode(message.drain, writer.uint32(354).fork(), _depth + 1).ldelim();
                    if (message.submitAccepted != null && $Object.hasOwnProperty.call(message, "submitAccepted"))
                        $root.murmuration.wire.v1.SubmitAccepted.encode(message.submitAccepted, writer.uint32(362).fork(), _depth + 1).ldelim();
                    if (message.submitMismatch != null && $Object.hasOwnProperty.call(message, "submitMismatch"))
                        $root.murmuration.wire.v1.SubmitMismatch.encode(message.submitMismatch, writer.uint32(370).fork(), _depth + 1).ldelim();
                    if (message.acknowledged != null && $Object.hasOwnProperty.call(message, "acknowledged"))
                        $root.murmuration.wire.v1.Acknowledged.encode(message.acknowledged, writer.uint32(378).fork(), _depth + 1).ldelim();
                    if (message.pong != null && $Object.hasOwnProperty.call(message, "pong"))
                        $root.murmuration.wire.v1.Pong.encode(message.pong, writer.uint32(386).fork(), _depth + 1).ldelim();
                    if (message.preKeysLow != null && $Object.hasOwnProperty.call(message, "preKeysLow"))
                        $root.murmuration.wire.v1.PreKeysLow.encode(message.preKeysLow, writer.uint32(394).fork(), _depth + 1).ldelim();
                    if (message.rejection != null && $Object.hasOwnProperty.call(message, "rejection"))
                        $root.murmuration.wire.v1.Rejection.encode(message.rejection, writer.uint32(402).fork(), _depth + 1).ldelim();
                    if (message.keyPackagesLow != null && $Object.hasOwnProperty.call(message, "keyPackagesLow"))
                        $root.murmuration.wire.v1.KeyPackagesLow.encode(message.keyPackagesLow, writer.uint32(410).fork(), _depth + 1).ldelim();
                    if (message.groupCreate != null && $Object.hasOwnProperty.call(message, "groupCreate"))
                        $root.murmuration.wire.v1.GroupCreate.encode(message.groupCreate, writer.uint32(514).fork(), _depth + 1).ldelim();
                    if (message.groupAccess != null && $Object.hasOwnProperty.call(message, "groupAccess"))
                        $root.murmuration.wire.v1.GroupAccess.encode(message.groupAccess, writer.uint32(522).fork(), _depth + 1).ldelim();
                    if (message.groupAcknowledge != null && $Object.hasOwnProperty.call(message, "groupAcknowledge"))
                        $root.murmuration.wire.v1.GroupAcknowledge.encode(message.groupAcknowledge, writer.uint32(530).fork(), _depth + 1).ldelim();
                    if (message.groupSubmit != null && $Object.hasOwnProperty.call(message, "groupSubmit"))
                        $root.murmuration.wire.v1.GroupSubmit.encode(message.groupSubmit, writer.uint32(538).fork(), _depth + 1).ldelim();
                    if (message.groupCommit != null && $Object.hasOwnProperty.call(message, "groupCommit"))
                        $root.murmuration.wire.v1.GroupCommit.encode(message.groupCommit, writer.uint32(546).fork(), _depth + 1).ldelim();
                    if (message.groupPropose != null && $Object.hasOwnProperty.call(message, "groupPropose"))
                        $root.murmuration.wire.v1.GroupPropose.encode(message.groupPropose, writer.uint32(554).fork(), _depth + 1).ldelim();
                    if (message.groupTurnRelease != null && $Object.hasOwnProperty.call(message, "groupTurnRelease"))
                        $root.murmuration.wire.v1.GroupTurnRelease.encode(message.groupTurnRelease, writer.uint32(562).fork(), _depth + 1).ldelim();
                    if (message.groupInfoRequest != null && $Object.hasOwnProperty.call(message, "groupInfoRequest"))
                        $root.murmuration.wire.v1.GroupInfoRequest.encode(message.groupInfoRequest, writer.uint32(570).fork(), _depth + 1).ldelim();
                    if (message.groupBan != null && $Object.hasOwnProperty.call(message, "groupBan"))
                        $root.murmuration.wire.v1.GroupBan.encode(message.groupBan, writer.uint32(578).fork(), _depth + 1).ldelim();
                    if (message.groupRefuse != null && $Object.hasOwnProperty.call(message, "groupRefuse"))
                        $root.murmuration.wire.v1.GroupRefuse.encode(message.groupRefuse, writer.uint32(586).fork(), _depth + 1).ldelim();
                    if (message.groupRefeed != null && $Object.hasOwnProperty.call(message, "groupRefeed"))
                        $root.murmuration.wire.v1.GroupRefeed.encode(message.groupRefeed, writer.uint32(594).fork(), _depth + 1).ldelim();
                    if (message.groupPushHandle != null && $Object.hasOwnProperty.call(message, "groupPushHandle"))
                        $root.murmuration.wire.v1.GroupPushHandle.encode(message.groupPushHandle, writer.uint32(602).fork(), _depth + 1).ldelim();
                    if (message.groupCreated != null && $Object.hasOwnProperty.call(message, "groupCreated"))
                        $root.murmuration.wire.v1.GroupCreated.encode(message.groupCreated, writer.uint32(770).fork(), _depth + 1).ldelim();
                    if (message.groupAccessGranted != null && $Object.hasOwnProperty.call(message, "groupAccessGranted"))
                        $root.murmuration.wire.v1.GroupAccessGranted.encode(message.groupAccessGranted, writer.uint32(778).fork(), _depth + 1).ldelim();
                    if (message.groupEntries != null && $Object.hasOwnProperty.call(message, "groupEntries"))
                        $root.murmuration.wire.v1.GroupEntries.encode(message.groupEntries, writer.uint32(786).fork(), _depth + 1).ldelim();
                    if (message.groupSubmitAccepted != null && $Object.hasOwnProperty.call(message, "groupSubmitAccepted"))
                        $root.murmuration.wire.v1.GroupSubmitAccepted.encode(message.groupSubmitAccepted, writer.uint32(794).fork(), _depth + 1).ldelim();
                    if (message.groupCommitAccepted != null && $Object.hasOwnProperty.call(message, "groupCommitAccepted"))
                        $root.murmuration.wire.v1.GroupCommitAccepted.encode(message.groupCommitAccepted, writer.uint32(802).fork(), _depth + 1).ldelim();
                    if (message.groupCommitLost != null && $Object.hasOwnProperty.call(message, "groupCommitLost"))
                        $root.murmuration.wire.v1.GroupCommitLost.encode(message.groupCommitLost, writer.uint32(810).fork(), _depth + 1).ldelim();
                    if (message.groupProposeAccepted != null && $Object.hasOwnProperty.call(message, "groupProposeAccepted"))
                        $root.murmuration.wire.v1.GroupProposeAccepted.encode(message.groupProposeAccepted, writer.uint32(818).fork(), _depth + 1).ldelim();
                    if (message.groupTurn != null && $Object.hasOwnProperty.call(message, "groupTurn"))
                        $root.murmuration.wire.v1.GroupTurn.encode(message.groupTurn, writer.uint32(826).fork(), _depth + 1).ldelim();
                    if (message.groupInfoReply != null && $Object.hasOwnProperty.call(message, "groupInfoReply"))
                        $root.murmuration.wire.v1.GroupInfoReply.encode(message.groupInfoReply, writer.uint32(834).fork(), _depth + 1).ldelim();
                    if (message.groupDone != null && $Object.hasOwnProperty.call(message, "groupDone"))
                        $root.murmuration.wire.v1.GroupDone.encode(message.groupDone, writer.uint32(842).fork(), _depth + 1).ldelim();
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                Frame.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.Frame();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.requestId = value;
                                else
                                    delete message.requestId;
                                continue;
                            }
                        case 16: {
                                if (wireType !== 2)
                                    break;
                                message.hello = $root.murmuration.wire.v1.Hello.decode(reader, reader.size(), $undefined, _depth + 1, message.hello);
                                message.body = "hello";
                                continue;
                            }
                        case 17: {
                                if (wireType !== 2)
                                    break;
                                message.acknowledge = $root.murmuration.wire.v1.Acknowledge.decode(reader, reader.size(), $undefined, _depth + 1, message.acknowledge);
                                message.body = "acknowledge";
                                continue;
                            }
                        case 18: {
                                if (wireType !== 2)
                                    break;
                                message.submitSealed = $root.murmuration.wire.v1.SubmitSealed.decode(reader, reader.size(), $undefined, _depth + 1, message.submitSealed);
                                message.body = "submitSealed";
                                continue;
                            }
                        case 19: {
                                if (wireType !== 2)
                                    break;
                                message.submitIdentified = $root.murmuration.wire.v1.SubmitIdentified.decode(reader, reader.size(), $undefined, _depth + 1, message.submitIdentified);
                                message.body = "submitIdentified";
                                continue;
                            }
                        case 20: {
                                if (wireType !== 2)
                                    break;
                                message.ping = $root.murmuration.wire.v1.Ping.decode(reader, reader.size(), $undefined, _depth + 1, message.ping);
                                message.body = "ping";
                                continue;
                            }
                        case 40: {
                                if (wireType !== 2)
                                    break;
                                message.helloReply = $root.murmuration.wire.v1.HelloReply.decode(reader, reader.size(), $undefined, _depth + 1, message.helloReply);
                                message.body = "helloReply";
                                continue;
                            }
                        case 41: {
                                if (wireType !== 2)
                                    break;
                                message.deliver = $root.murmuration.wire.v1.Deliver.decode(reader, reader.size(), $undefined, _depth + 1, message.deliver);
                                message.body = "deliver";
                                continue;
                            }
                        case 42: {
                                if (wireType !== 2)
                                    break;
                                message.queueEmpty = $root.murmuration.wire.v1.QueueEmpty.decode(reader, reader.size(), $undefined, _depth + 1, message.queueEmpty);
                                message.body = "queueEmpty";
                                continue;
                            }
                        case 43: {
                                if (wireType !== 2)
                                    break;
                                message.resumeHint = $root.murmuration.wire.v1.ResumeHint.decode(reader, reader.size(), $undefined, _depth + 1, message.resumeHint);
                                message.body = "resumeHint";
                                continue;
                            }
                        case 44: {
                                if (wireType !== 2)
                                    break;
                                message.drain = $root.murmuration.wire.v1.Drain.decode(reader, reader.size(), $undefined, _depth + 1, message.drain);
                                message.body = "drain";
                                continue;
                            }
                        case 45: {
                                if (wireType !== 2)
                                    break;
                                message.submitAccepted = $root.murmuration.wire.v1.SubmitAccepted.decode(reader, reader.size(), $undefined, _depth + 1, message.submitAccepted);
                                message.body = "submitAccepted";
                                continue;
                            }
                        case 46: {
                                if (wireType !== 2)
                                    break;
                                message.submitMismatch = $root.murmuration.wire.v1.SubmitMismatch.decode(reader, reader.size(), $undefined, _depth + 1, message.submitMismatch);
                                message.body = "submitMismatch";
                                continue;
                            }
                        case 47: {
                                if (wireType !== 2)
                                    break;
                                message.acknowledged = $root.murmuration.wire.v1.Acknowledged.decode(reader, reader.size(), $undefined, _depth + 1, message.acknowledged);
                                message.body = "acknowledged";
                                continue;
                            }
                        case 48: {
                                if (wireType !== 2)
                                    break;
                                message.pong = $root.murmuration.wire.v1.Pong.decode(reader, reader.size(), $undefined, _depth + 1, message.pong);
                                message.body = "pong";
                                continue;
                            }
                        case 49: {
                                if (wireType !== 2)
                                    break;
                                message.preKeysLow = $root.murmuration.wire.v1.PreKeysLow.decode(reader, reader.size(), $undefined, _depth + 1, message.preKeysLow);
                                message.body = "preKeysLow";
                                continue;
                            }
                        case 50: {
                                if (wireType !== 2)
                                    break;
                                message.rejection = $root.murmuration.wire.v1.Rejection.decode(reader, reader.size(), $undefined, _depth + 1, message.rejection);
                                message.body = "rejection";
                                continue;
                            }
                        case 51: {
                                if (wireType !== 2)
                                    break;
                                message.keyPackagesLow = $root.murmuration.wire.v1.KeyPackagesLow.decode(reader, reader.size(), $undefined, _depth + 1, message.keyPackagesLow);
                                message.body = "keyPackagesLow";
                                continue;
                            }
                        case 64: {
                                if (wireType !== 2)
                                    break;
                                message.groupCreate = $root.murmuration.wire.v1.GroupCreate.decode(reader, reader.size(), $undefined, _depth + 1, message.groupCreate);
                                message.body = "groupCreate";
                                continue;
                            }
                        case 65: {
                                if (wireType !== 2)
                                    break;
                                message.groupAccess = $root.murmuration.wire.v1.GroupAccess.decode(reader, reader.size(), $undefined, _depth + 1, message.groupAccess);
                                message.body = "groupAccess";
                                continue;
                            }
                        case 66: {
                                if (wireType !== 2)
                                    break;
                                message.groupAcknowledge = $root.murmuration.wire.v1.GroupAcknowledge.decode(reader, reader.size(), $undefined, _depth + 1, message.groupAcknowledge);
                                message.body = "groupAcknowledge";
                                continue;
                            }
                        case 67: {
                                if (wireType !== 2)
                                    break;
                                message.groupSubmit = $root.murmuration.wire.v1.GroupSubmit.decode(reader, reader.size(), $undefined, _depth + 1, message.groupSubmit);
                                message.body = "groupSubmit";
                                continue;
                            }
                        case 68: {
                                if (wireType !== 2)
                                    break;
                                message.groupCommit = $root.murmuration.wire.v1.GroupCommit.decode(reader, reader.size(), $undefined, _depth + 1, message.groupCommit);
                                message.body = "groupCommit";
                                continue;
                            }
                        case 69: {
                                if (wireType !== 2)
                                    break;
                                message.groupPropose = $root.murmuration.wire.v1.GroupPropose.decode(reader, reader.size(), $undefined, _depth + 1, message.groupPropose);
                                message.body = "groupPropose";
                                continue;
                            }
                        case 70: {
                                if (wireType !== 2)
                                    break;
                                message.groupTurnRelease = $root.murmuration.wire.v1.GroupTurnRelease.decode(reader, reader.size(), $undefined, _depth + 1, message.groupTurnRelease);
                                message.body = "groupTurnRelease";
                                continue;
                            }
                        case 71: {
                                if (wireType !== 2)
                                    break;
                                message.groupInfoRequest = $root.murmuration.wire.v1.GroupInfoRequest.decode(reader, reader.size(), $undefined, _depth + 1, message.groupInfoRequest);
                                message.body = "groupInfoRequest";
                                continue;
                            }
                        case 72: {
                                if (wireType !== 2)
                                    break;
                                message.groupBan = $root.murmuration.wire.v1.GroupBan.decode(reader, reader.size(), $undefined, _depth + 1, message.groupBan);
                                message.body = "groupBan";
                                continue;
                            }
                        case 73: {
                                if (wireType !== 2)
                                    break;
                                message.groupRefuse = $root.murmuration.wire.v1.GroupRefuse.decode(reader, reader.size(), $undefined, _depth + 1, message.groupRefuse);
                                message.body = "groupRefuse";
                                continue;
                            }
                        case 74: {
                                if (wireType !== 2)
                                    break;
                                message.groupRefeed = $root.murmuration.wire.v1.GroupRefeed.decode(reader, reader.size(), $undefined, _depth + 1, message.groupRefeed);
                                message.body = "groupRefeed";
                                continue;
                            }
                        case 75: {
                                if (wireType !== 2)
                                    break;
                                message.groupPushHandle = $root.murmuration.wire.v1.GroupPushHandle.decode(reader, reader.size(), $undefined, _depth + 1, message.groupPushHandle);
                                message.body = "groupPushHandle";
                                continue;
                            }
                        case 96: {
                                if (wireType !== 2)
                                    break;
                                message.groupCreated = $root.murmuration.wire.v1.GroupCreated.decode(reader, reader.size(), $undefined, _depth + 1, message.groupCreated);
                                message.body = "groupCreated";
                                continue;
                            }
                        case 97: {
                                if (wireType !== 2)
                                    break;
                                message.groupAccessGranted = $root.murmuration.wire.v1.GroupAccessGranted.decode(reader, reader.size(), $undefined, _depth + 1, message.groupAccessGranted);
                                message.body = "groupAccessGranted";
                                continue;
                            }
                        case 98: {
                                if (wireType !== 2)
                                    break;
                                message.groupEntries = $root.murmuration.wire.v1.GroupEntries.decode(reader, reader.size(), $undefined, _depth + 1, message.groupEntries);
                                message.body = "groupEntries";
                                continue;
                            }
                        case 99: {
                                if (wireType !== 2)
                                    break;
                                message.groupSubmitAccepted = $root.murmuration.wire.v1.GroupSubmitAccepted.decode(reader, reader.size(), $undefined, _depth + 1, message.groupSubmitAccepted);
                                message.body = "groupSubmitAccepted";
                                continue;
                            }
                        case 100: {
                                if (wireType !== 2)
                                    break;
                                message.groupCommitAccepted = $root.murmuration.wire.v1.GroupCommitAccepted.decode(reader, reader.size(), $undefined, _depth + 1, message.groupCommitAccepted);
                                message.body = "groupCommitAccepted";
                                continue;
                            }
                        case 101: {
                                if (wireType !== 2)
                                    break;
                                message.groupCommitLost = $root.murmuration.wire.v1.GroupCommitLost.decode(reader, reader.size(), $undefined, _depth + 1, message.groupCommitLost);
                                message.body = "groupCommitLost";
                                continue;
                            }
                        case 102: {
                                if (wireType !== 2)
                                    break;
                                message.groupProposeAccepted = $root.murmuration.wire.v1.GroupProposeAccepted.decode(reader, reader.size(), $undefined, _depth + 1, message.groupProposeAccepted);
                                message.body = "groupProposeAccepted";
                                continue;
                            }
                        case 103: {
                                if (wireType !== 2)
                                    break;
                                message.groupTurn = $root.murmuration.wire.v1.GroupTurn.decode(reader, reader.size(), $undefined, _depth + 1, message.groupTurn);
                                message.body = "groupTurn";
                                continue;
                            }
                        case 104: {
                                if (wireType !== 2)
                                    break;
                                message.groupInfoReply = $root.murmuration.wire.v1.GroupInfoReply.decode(reader, reader.size(), $undefined, _depth + 1, message.groupInfoReply);
                                message.body = "groupInfoReply";
                                continue;
                            }
                        case 105: {
                                if (wireType !== 2)
                                    break;
                                message.groupDone = $root.murmuration.wire.v1.GroupDone.decode(reader, reader.size(), $undefined, _depth + 1, message.groupDone);
                                message.body = "groupDone";
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return Frame;
            })();

            v1.Hello = (function() {

                const Hello = function (properties) {
                    this.versions = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                Hello.prototype.versions = $util.emptyArray;
                Hello.prototype.auth = null;
                Hello.prototype.storeMark = null;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(Hello.prototype, "_auth", {
                    get: $util.oneOfGetter($oneOfFields = ["auth"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(Hello.prototype, "_storeMark", {
                    get: $util.oneOfGetter($oneOfFields = ["storeMark"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                Hello.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.versions != null && message.versions.length)
                        writer.uint32(10).uint32s(message.versions);
                    if (message.auth != null && $Object.hasOwnProperty.call(message, "auth"))
                        $root.murmuration.wire.v1.DeviceAuth.encode(message.auth, writer.uint32(18).fork(), _depth + 1).ldelim();
                    if (message.storeMark != null && $Object.hasOwnProperty.call(message, "storeMark"))
                        writer.uint32(26).bytes(message.storeMark);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                Hello.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.Hello();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType === 2) {
                                    if (!(message.versions && message.versions.length))
                                        message.versions = [];
                                    reader.uint32s(message.versions);
                                    continue;
                                }
                                if (wireType !== 0)
                                    break;
                                if (!(message.versions && message.versions.length))
                                    message.versions = [];
                                message.versions.push(reader.uint32());
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                message.auth = $root.murmuration.wire.v1.DeviceAuth.decode(reader, reader.size(), $undefined, _depth + 1, message.auth);
                                message._auth = "auth";
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                message.storeMark = reader.bytes();
                                message._storeMark = "storeMark";
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return Hello;
            })();

            v1.HelloReply = (function() {

                const HelloReply = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                HelloReply.prototype.version = 0;
                HelloReply.prototype.storeId = $util.newBuffer([]);
                HelloReply.prototype.challenge = $util.newBuffer([]);
                HelloReply.prototype.serverTimeMs = 0;
                HelloReply.prototype.limits = null;
                HelloReply.prototype.lastEnvelopeId = null;
                HelloReply.prototype.storeMark = null;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(HelloReply.prototype, "_lastEnvelopeId", {
                    get: $util.oneOfGetter($oneOfFields = ["lastEnvelopeId"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(HelloReply.prototype, "_storeMark", {
                    get: $util.oneOfGetter($oneOfFields = ["storeMark"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                HelloReply.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.version != null && $Object.hasOwnProperty.call(message, "version") && message.version !== 0)
                        writer.uint32(8).uint32(message.version);
                    if (message.storeId != null && $Object.hasOwnProperty.call(message, "storeId") && message.storeId.length)
                        writer.uint32(18).bytes(message.storeId);
                    if (message.challenge != null && $Object.hasOwnProperty.call(message, "challenge") && message.challenge.length)
                        writer.uint32(26).bytes(message.challenge);
                    if (message.serverTimeMs != null && $Object.hasOwnProperty.call(message, "serverTimeMs") && (typeof message.serverTimeMs === "object" ? message.serverTimeMs.low || message.serverTimeMs.high : message.serverTimeMs !== 0))
                        writer.uint32(32).uint64(message.serverTimeMs);
                    if (message.limits != null && $Object.hasOwnProperty.call(message, "limits"))
                        $root.murmuration.wire.v1.ConnectionLimits.encode(message.limits, writer.uint32(42).fork(), _depth + 1).ldelim();
                    if (message.lastEnvelopeId != null && $Object.hasOwnProperty.call(message, "lastEnvelopeId"))
                        writer.uint32(48).uint64(message.lastEnvelopeId);
                    if (message.storeMark != null && $Object.hasOwnProperty.call(message, "storeMark"))
                        writer.uint32(58).bytes(message.storeMark);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                HelloReply.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.HelloReply();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.version = value;
                                else
                                    delete message.version;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.storeId = value;
                                else
                                    delete message.storeId;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.challenge = value;
                                else
                                    delete message.challenge;
                                continue;
                            }
                        case 4: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.serverTimeMs = value;
                                else
                                    delete message.serverTimeMs;
                                continue;
                            }
                        case 5: {
                                if (wireType !== 2)
                                    break;
                                message.limits = $root.murmuration.wire.v1.ConnectionLimits.decode(reader, reader.size(), $undefined, _depth + 1, message.limits);
                                continue;
                            }
                        case 6: {
                                if (wireType !== 0)
                                    break;
                                message.lastEnvelopeId = reader.uint64();
                                message._lastEnvelopeId = "lastEnvelopeId";
                                continue;
                            }
                        case 7: {
                                if (wireType !== 2)
                                    break;
                                message.storeMark = reader.bytes();
                                message._storeMark = "storeMark";
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return HelloReply;
            })();

            v1.ConnectionLimits = (function() {

                const ConnectionLimits = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                ConnectionLimits.prototype.frameBytes = 0;
                ConnectionLimits.prototype.envelopeBytes = 0;
                ConnectionLimits.prototype.recipientsPerSubmit = 0;
                ConnectionLimits.prototype.pingIntervalMs = 0;

                ConnectionLimits.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.frameBytes != null && $Object.hasOwnProperty.call(message, "frameBytes") && message.frameBytes !== 0)
                        writer.uint32(8).uint32(message.frameBytes);
                    if (message.envelopeBytes != null && $Object.hasOwnProperty.call(message, "envelopeBytes") && message.envelopeBytes !== 0)
                        writer.uint32(16).uint32(message.envelopeBytes);
                    if (message.recipientsPerSubmit != null && $Object.hasOwnProperty.call(message, "recipientsPerSubmit") && message.recipientsPerSubmit !== 0)
                        writer.uint32(24).uint32(message.recipientsPerSubmit);
                    if (message.pingIntervalMs != null && $Object.hasOwnProperty.call(message, "pingIntervalMs") && message.pingIntervalMs !== 0)
                        writer.uint32(32).uint32(message.pingIntervalMs);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                ConnectionLimits.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.ConnectionLimits();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.frameBytes = value;
                                else
                                    delete message.frameBytes;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.envelopeBytes = value;
                                else
                                    delete message.envelopeBytes;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.recipientsPerSubmit = value;
                                else
                                    delete message.recipientsPerSubmit;
                                continue;
                            }
                        case 4: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.pingIntervalMs = value;
                                else
                                    delete message.pingIntervalMs;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return ConnectionLimits;
            })();

            v1.Acknowledge = (function() {

                const Acknowledge = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                Acknowledge.prototype.throughEnvelopeId = 0;

                Acknowledge.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.throughEnvelopeId != null && $Object.hasOwnProperty.call(message, "throughEnvelopeId") && (typeof message.throughEnvelopeId === "object" ? message.throughEnvelopeId.low || message.throughEnvelopeId.high : message.throughEnvelopeId !== 0))
                        writer.uint32(8).uint64(message.throughEnvelopeId);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                Acknowledge.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.Acknowledge();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.throughEnvelopeId = value;
                                else
                                    delete message.throughEnvelopeId;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return Acknowledge;
            })();

            v1.Acknowledged = (function() {

                const Acknowledged = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                Acknowledged.prototype.throughEnvelopeId = 0;

                Acknowledged.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.throughEnvelopeId != null && $Object.hasOwnProperty.call(message, "throughEnvelopeId") && (typeof message.throughEnvelopeId === "object" ? message.throughEnvelopeId.low || message.throughEnvelopeId.high : message.throughEnvelopeId !== 0))
                        writer.uint32(8).uint64(message.throughEnvelopeId);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                Acknowledged.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.Acknowledged();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.throughEnvelopeId = value;
                                else
                                    delete message.throughEnvelopeId;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return Acknowledged;
            })();

            v1.SubmitSealed = (function() {

                const SubmitSealed = function (properties) {
                    this.recipients = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                SubmitSealed.prototype.submitId = $util.newBuffer([]);
                SubmitSealed.prototype.recipients = $util.emptyArray;
                SubmitSealed.prototype.fence = null;
                SubmitSealed.prototype.ephemeral = false;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(SubmitSealed.prototype, "_fence", {
                    get: $util.oneOfGetter($oneOfFields = ["fence"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                SubmitSealed.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.submitId != null && $Object.hasOwnProperty.call(message, "submitId") && message.submitId.length)
                        writer.uint32(10).bytes(message.submitId);
                    if (message.recipients != null && message.recipients.length)
                        for (let i = 0; i < message.recipients.length; ++i)
                            $root.murmuration.wire.v1.SealedRecipient.encode(message.recipients[i], writer.uint32(18).fork(), _depth + 1).ldelim();
                    if (message.fence != null && $Object.hasOwnProperty.call(message, "fence"))
                        $root.murmuration.wire.v1.GroupFence.encode(message.fence, writer.uint32(26).fork(), _depth + 1).ldelim();
                    if (message.ephemeral != null && $Object.hasOwnProperty.call(message, "ephemeral") && message.ephemeral !== false)
                        writer.uint32(32).bool(message.ephemeral);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                SubmitSealed.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.SubmitSealed();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.submitId = value;
                                else
                                    delete message.submitId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if (!(message.recipients && message.recipients.length))
                                    message.recipients = [];
                                message.recipients.push($root.murmuration.wire.v1.SealedRecipient.decode(reader, reader.size(), $undefined, _depth + 1));
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                message.fence = $root.murmuration.wire.v1.GroupFence.decode(reader, reader.size(), $undefined, _depth + 1, message.fence);
                                message._fence = "fence";
                                continue;
                            }
                        case 4: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.bool())
                                    message.ephemeral = value;
                                else
                                    delete message.ephemeral;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return SubmitSealed;
            })();

            v1.SealedRecipient = (function() {

                const SealedRecipient = function (properties) {
                    this.devices = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                SealedRecipient.prototype.accountId = $util.newBuffer([]);
                SealedRecipient.prototype.accessKey = $util.newBuffer([]);
                SealedRecipient.prototype.devices = $util.emptyArray;

                SealedRecipient.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.accountId != null && $Object.hasOwnProperty.call(message, "accountId") && message.accountId.length)
                        writer.uint32(10).bytes(message.accountId);
                    if (message.accessKey != null && $Object.hasOwnProperty.call(message, "accessKey") && message.accessKey.length)
                        writer.uint32(18).bytes(message.accessKey);
                    if (message.devices != null && message.devices.length)
                        for (let i = 0; i < message.devices.length; ++i)
                            $root.murmuration.wire.v1.SealedCiphertext.encode(message.devices[i], writer.uint32(26).fork(), _depth + 1).ldelim();
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                SealedRecipient.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.SealedRecipient();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.accountId = value;
                                else
                                    delete message.accountId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.accessKey = value;
                                else
                                    delete message.accessKey;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if (!(message.devices && message.devices.length))
                                    message.devices = [];
                                message.devices.push($root.murmuration.wire.v1.SealedCiphertext.decode(reader, reader.size(), $undefined, _depth + 1));
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return SealedRecipient;
            })();

            v1.SealedCiphertext = (function() {

                const SealedCiphertext = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                SealedCiphertext.prototype.deviceId = 0;
                SealedCiphertext.prototype.registrationId = 0;
                SealedCiphertext.prototype.ciphertext = $util.newBuffer([]);

                SealedCiphertext.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.deviceId != null && $Object.hasOwnProperty.call(message, "deviceId") && message.deviceId !== 0)
                        writer.uint32(8).uint32(message.deviceId);
                    if (message.registrationId != null && $Object.hasOwnProperty.call(message, "registrationId") && message.registrationId !== 0)
                        writer.uint32(16).uint32(message.registrationId);
                    if (message.ciphertext != null && $Object.hasOwnProperty.call(message, "ciphertext") && message.ciphertext.length)
                        writer.uint32(26).bytes(message.ciphertext);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                SealedCiphertext.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.SealedCiphertext();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.deviceId = value;
                                else
                                    delete message.deviceId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.registrationId = value;
                                else
                                    delete message.registrationId;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.ciphertext = value;
                                else
                                    delete message.ciphertext;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return SealedCiphertext;
            })();

            v1.GroupFence = (function() {

                const GroupFence = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupFence.prototype.groupId = $util.newBuffer([]);
                GroupFence.prototype.fence = $util.newBuffer([]);

                GroupFence.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.groupId != null && $Object.hasOwnProperty.call(message, "groupId") && message.groupId.length)
                        writer.uint32(10).bytes(message.groupId);
                    if (message.fence != null && $Object.hasOwnProperty.call(message, "fence") && message.fence.length)
                        writer.uint32(18).bytes(message.fence);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupFence.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupFence();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.groupId = value;
                                else
                                    delete message.groupId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.fence = value;
                                else
                                    delete message.fence;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupFence;
            })();

            v1.SubmitIdentified = (function() {

                const SubmitIdentified = function (properties) {
                    this.devices = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                SubmitIdentified.prototype.submitId = $util.newBuffer([]);
                SubmitIdentified.prototype.accountId = $util.newBuffer([]);
                SubmitIdentified.prototype.devices = $util.emptyArray;

                SubmitIdentified.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.submitId != null && $Object.hasOwnProperty.call(message, "submitId") && message.submitId.length)
                        writer.uint32(10).bytes(message.submitId);
                    if (message.accountId != null && $Object.hasOwnProperty.call(message, "accountId") && message.accountId.length)
                        writer.uint32(18).bytes(message.accountId);
                    if (message.devices != null && message.devices.length)
                        for (let i = 0; i < message.devices.length; ++i)
                            $root.murmuration.wire.v1.IdentifiedCiphertext.encode(message.devices[i], writer.uint32(26).fork(), _depth + 1).ldelim();
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                SubmitIdentified.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.SubmitIdentified();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.submitId = value;
                                else
                                    delete message.submitId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.accountId = value;
                                else
                                    delete message.accountId;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if (!(message.devices && message.devices.length))
                                    message.devices = [];
                                message.devices.push($root.murmuration.wire.v1.IdentifiedCiphertext.decode(reader, reader.size(), $undefined, _depth + 1));
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return SubmitIdentified;
            })();

            v1.IdentifiedCiphertext = (function() {

                const IdentifiedCiphertext = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                IdentifiedCiphertext.prototype.deviceId = 0;
                IdentifiedCiphertext.prototype.registrationId = 0;
                IdentifiedCiphertext.prototype.ciphertext = $util.newBuffer([]);

                IdentifiedCiphertext.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.deviceId != null && $Object.hasOwnProperty.call(message, "deviceId") && message.deviceId !== 0)
                        writer.uint32(8).uint32(message.deviceId);
                    if (message.registrationId != null && $Object.hasOwnProperty.call(message, "registrationId") && message.registrationId !== 0)
                        writer.uint32(16).uint32(message.registrationId);
                    if (message.ciphertext != null && $Object.hasOwnProperty.call(message, "ciphertext") && message.ciphertext.length)
                        writer.uint32(26).bytes(message.ciphertext);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                IdentifiedCiphertext.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.IdentifiedCiphertext();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.deviceId = value;
                                else
                                    delete message.deviceId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.registrationId = value;
                                else
                                    delete message.registrationId;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.ciphertext = value;
                                else
                                    delete message.ciphertext;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return IdentifiedCiphertext;
            })();

            v1.SubmitAccepted = (function() {

                const SubmitAccepted = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                SubmitAccepted.prototype.serverTimeMs = 0;
                SubmitAccepted.prototype.repeatedSubmit = false;

                SubmitAccepted.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.serverTimeMs != null && $Object.hasOwnProperty.call(message, "serverTimeMs") && (typeof message.serverTimeMs === "object" ? message.serverTimeMs.low || message.serverTimeMs.high : message.serverTimeMs !== 0))
                        writer.uint32(8).uint64(message.serverTimeMs);
                    if (message.repeatedSubmit != null && $Object.hasOwnProperty.call(message, "repeatedSubmit") && message.repeatedSubmit !== false)
                        writer.uint32(16).bool(message.repeatedSubmit);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                SubmitAccepted.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.SubmitAccepted();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.serverTimeMs = value;
                                else
                                    delete message.serverTimeMs;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.bool())
                                    message.repeatedSubmit = value;
                                else
                                    delete message.repeatedSubmit;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return SubmitAccepted;
            })();

            v1.SubmitMismatch = (function() {

                const SubmitMismatch = function (properties) {
                    this.accounts = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                SubmitMismatch.prototype.accounts = $util.emptyArray;

                SubmitMismatch.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.accounts != null && message.accounts.length)
                        for (let i = 0; i < message.accounts.length; ++i)
                            $root.murmuration.wire.v1.AccountMismatch.encode(message.accounts[i], writer.uint32(10).fork(), _depth + 1).ldelim();
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                SubmitMismatch.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.SubmitMismatch();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if (!(message.accounts && message.accounts.length))
                                    message.accounts = [];
                                message.accounts.push($root.murmuration.wire.v1.AccountMismatch.decode(reader, reader.size(), $undefined, _depth + 1));
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return SubmitMismatch;
            })();

            v1.AccountMismatch = (function() {

                const AccountMismatch = function (properties) {
                    this.missingDevices = [];
                    this.extraDevices = [];
                    this.staleDevices = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                AccountMismatch.prototype.accountId = $util.newBuffer([]);
                AccountMismatch.prototype.unknownAccount = false;
                AccountMismatch.prototype.missingDevices = $util.emptyArray;
                AccountMismatch.prototype.extraDevices = $util.emptyArray;
                AccountMismatch.prototype.staleDevices = $util.emptyArray;
                AccountMismatch.prototype.accessDenied = false;
                AccountMismatch.prototype.mailboxFull = false;

                AccountMismatch.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.accountId != null && $Object.hasOwnProperty.call(message, "accountId") && message.accountId.length)
                        writer.uint32(10).bytes(message.accountId);
                    if (message.unknownAccount != null && $Object.hasOwnProperty.call(message, "unknownAccount") && message.unknownAccount !== false)
                        writer.uint32(16).bool(message.unknownAccount);
                    if (message.missingDevices != null && message.missingDevices.length)
                        writer.uint32(26).uint32s(message.missingDevices);
                    if (message.extraDevices != null && message.extraDevices.length)
                        writer.uint32(34).uint32s(message.extraDevices);
                    if (message.staleDevices != null && message.staleDevices.length)
                        writer.uint32(42).uint32s(message.staleDevices);
                    if (message.accessDenied != null && $Object.hasOwnProperty.call(message, "accessDenied") && message.accessDenied !== false)
                        writer.uint32(48).bool(message.accessDenied);
                    if (message.mailboxFull != null && $Object.hasOwnProperty.call(message, "mailboxFull") && message.mailboxFull !== false)
                        writer.uint32(56).bool(message.mailboxFull);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                AccountMismatch.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.AccountMismatch();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.accountId = value;
                                else
                                    delete message.accountId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.bool())
                                    message.unknownAccount = value;
                                else
                                    delete message.unknownAccount;
                                continue;
                            }
                        case 3: {
                                if (wireType === 2) {
                                    if (!(message.missingDevices && message.missingDevices.length))
                                        message.missingDevices = [];
                                    reader.uint32s(message.missingDevices);
                                    continue;
                                }
                                if (wireType !== 0)
                                    break;
                                if (!(message.missingDevices && message.missingDevices.length))
                                    message.missingDevices = [];
                                message.missingDevices.push(reader.uint32());
                                continue;
                            }
                        case 4: {
                                if (wireType === 2) {
                                    if (!(message.extraDevices && message.extraDevices.length))
                                        message.extraDevices = [];
                                    reader.uint32s(message.extraDevices);
                                    continue;
                                }
                                if (wireType !== 0)
                                    break;
                                if (!(message.extraDevices && message.extraDevices.length))
                                    message.extraDevices = [];
                                message.extraDevices.push(reader.uint32());
                                continue;
                            }
                        case 5: {
                                if (wireType === 2) {
                                    if (!(message.staleDevices && message.staleDevices.length))
                                        message.staleDevices = [];
                                    reader.uint32s(message.staleDevices);
                                    continue;
                                }
                                if (wireType !== 0)
                                    break;
                                if (!(message.staleDevices && message.staleDevices.length))
                                    message.staleDevices = [];
                                message.staleDevices.push(reader.uint32());
                                continue;
                            }
                        case 6: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.bool())
                                    message.accessDenied = value;
                                else
                                    delete message.accessDenied;
                                continue;
                            }
                        case 7: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.bool())
                                    message.mailboxFull = value;
                                else
                                    delete message.mailboxFull;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return AccountMismatch;
            })();

            v1.Deliver = (function() {

                const Deliver = function (properties) {
                    this.envelopes = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                Deliver.prototype.envelopes = $util.emptyArray;
                Deliver.prototype.storeMark = null;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(Deliver.prototype, "_storeMark", {
                    get: $util.oneOfGetter($oneOfFields = ["storeMark"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                Deliver.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.envelopes != null && message.envelopes.length)
                        for (let i = 0; i < message.envelopes.length; ++i)
                            $root.murmuration.wire.v1.Envelope.encode(message.envelopes[i], writer.uint32(10).fork(), _depth + 1).ldelim();
                    if (message.storeMark != null && $Object.hasOwnProperty.call(message, "storeMark"))
                        writer.uint32(18).bytes(message.storeMark);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                Deliver.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.Deliver();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if (!(message.envelopes && message.envelopes.length))
                                    message.envelopes = [];
                                message.envelopes.push($root.murmuration.wire.v1.Envelope.decode(reader, reader.size(), $undefined, _depth + 1));
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                message.storeMark = reader.bytes();
                                message._storeMark = "storeMark";
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return Deliver;
            })();

            v1.Envelope = (function() {

                const Envelope = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                Envelope.prototype.envelopeId = 0;
                Envelope.prototype.serverTimeMs = 0;
                Envelope.prototype.sealed = null;
                Envelope.prototype.identified = null;
                Envelope.prototype.welcome = null;

                let $oneOfFields;

                $Object.defineProperty(Envelope.prototype, "content", {
                    get: $util.oneOfGetter($oneOfFields = ["sealed", "identified", "welcome"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                Envelope.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.envelopeId != null && $Object.hasOwnProperty.call(message, "envelopeId") && (typeof message.envelopeId === "object" ? message.envelopeId.low || message.envelopeId.high : message.envelopeId !== 0))
                        writer.uint32(8).uint64(message.envelopeId);
                    if (message.serverTimeMs != null && $Object.hasOwnProperty.call(message, "serverTimeMs") && (typeof message.serverTimeMs === "object" ? message.serverTimeMs.low || message.serverTimeMs.high : message.serverTimeMs !== 0))
                        writer.uint32(16).uint64(message.serverTimeMs);
                    if (message.sealed != null && $Object.hasOwnProperty.call(message, "sealed"))
                        $root.murmuration.wire.v1.SealedContent.encode(message.sealed, writer.uint32(130).fork(), _depth + 1).ldelim();
                    if (message.identified != null && $Object.hasOwnProperty.call(message, "identified"))
                        $root.murmuration.wire.v1.IdentifiedContent.encode(message.identified, writer.uint32(138).fork(), _depth + 1).ldelim();
                    if (message.welcome != null && $Object.hasOwnProperty.call(message, "welcome"))
                        $root.murmuration.wire.v1.WelcomeContent.encode(message.welcome, writer.uint32(146).fork(), _depth + 1).ldelim();
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                Envelope.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.Envelope();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.envelopeId = value;
                                else
                                    delete message.envelopeId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.serverTimeMs = value;
                                else
                                    delete message.serverTimeMs;
                                continue;
                            }
                        case 16: {
                                if (wireType !== 2)
                                    break;
                                message.sealed = $root.murmuration.wire.v1.SealedContent.decode(reader, reader.size(), $undefined, _depth + 1, message.sealed);
                                message.content = "sealed";
                                continue;
                            }
                        case 17: {
                                if (wireType !== 2)
                                    break;
                                message.identified = $root.murmuration.wire.v1.IdentifiedContent.decode(reader, reader.size(), $undefined, _depth + 1, message.identified);
                                message.content = "identified";
                                continue;
                            }
                        case 18: {
                                if (wireType !== 2)
                                    break;
                                message.welcome = $root.murmuration.wire.v1.WelcomeContent.decode(reader, reader.size(), $undefined, _depth + 1, message.welcome);
                                message.content = "welcome";
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return Envelope;
            })();

            v1.SealedContent = (function() {

                const SealedContent = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                SealedContent.prototype.ciphertext = $util.newBuffer([]);

                SealedContent.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.ciphertext != null && $Object.hasOwnProperty.call(message, "ciphertext") && message.ciphertext.length)
                        writer.uint32(10).bytes(message.ciphertext);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                SealedContent.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.SealedContent();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.ciphertext = value;
                                else
                                    delete message.ciphertext;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return SealedContent;
            })();

            v1.IdentifiedContent = (function() {

                const IdentifiedContent = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                IdentifiedContent.prototype.senderAccountId = $util.newBuffer([]);
                IdentifiedContent.prototype.senderDeviceId = 0;
                IdentifiedContent.prototype.ciphertext = $util.newBuffer([]);

                IdentifiedContent.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.senderAccountId != null && $Object.hasOwnProperty.call(message, "senderAccountId") && message.senderAccountId.length)
                        writer.uint32(10).bytes(message.senderAccountId);
                    if (message.senderDeviceId != null && $Object.hasOwnProperty.call(message, "senderDeviceId") && message.senderDeviceId !== 0)
                        writer.uint32(16).uint32(message.senderDeviceId);
                    if (message.ciphertext != null && $Object.hasOwnProperty.call(message, "ciphertext") && message.ciphertext.length)
                        writer.uint32(26).bytes(message.ciphertext);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                IdentifiedContent.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.IdentifiedContent();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.senderAccountId = value;
                                else
                                    delete message.senderAccountId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.senderDeviceId = value;
                                else
                                    delete message.senderDeviceId;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.ciphertext = value;
                                else
                                    delete message.ciphertext;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return IdentifiedContent;
            })();

            v1.QueueEmpty = (function() {

                const QueueEmpty = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                QueueEmpty.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                QueueEmpty.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.QueueEmpty();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        reader.skipType(tag & 7, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return QueueEmpty;
            })();

            v1.WelcomeContent = (function() {

                const WelcomeContent = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                WelcomeContent.prototype.groupId = $util.newBuffer([]);
                WelcomeContent.prototype.welcome = $util.newBuffer([]);
                WelcomeContent.prototype.treeHash = $util.newBuffer([]);
                WelcomeContent.prototype.sequence = 0;

                WelcomeContent.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.groupId != null && $Object.hasOwnProperty.call(message, "groupId") && message.groupId.length)
                        writer.uint32(10).bytes(message.groupId);
                    if (message.welcome != null && $Object.hasOwnProperty.call(message, "welcome") && message.welcome.length)
                        writer.uint32(18).bytes(message.welcome);
                    if (message.treeHash != null && $Object.hasOwnProperty.call(message, "treeHash") && message.treeHash.length)
                        writer.uint32(26).bytes(message.treeHash);
                    if (message.sequence != null && $Object.hasOwnProperty.call(message, "sequence") && (typeof message.sequence === "object" ? message.sequence.low || message.sequence.high : message.sequence !== 0))
                        writer.uint32(32).uint64(message.sequence);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                WelcomeContent.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.WelcomeContent();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.groupId = value;
                                else
                                    delete message.groupId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.welcome = value;
                                else
                                    delete message.welcome;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.treeHash = value;
                                else
                                    delete message.treeHash;
                                continue;
                            }
                        case 4: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.sequence = value;
                                else
                                    delete message.sequence;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return WelcomeContent;
            })();

            v1.ResumeHint = (function() {

                const ResumeHint = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                ResumeHint.prototype.retryAfterMs = 0;

                ResumeHint.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.retryAfterMs != null && $Object.hasOwnProperty.call(message, "retryAfterMs") && message.retryAfterMs !== 0)
                        writer.uint32(8).uint32(message.retryAfterMs);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                ResumeHint.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.ResumeHint();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.retryAfterMs = value;
                                else
                                    delete message.retryAfterMs;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return ResumeHint;
            })();

            v1.Drain = (function() {

                const Drain = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                Drain.prototype.retryAfterMs = 0;

                Drain.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.retryAfterMs != null && $Object.hasOwnProperty.call(message, "retryAfterMs") && message.retryAfterMs !== 0)
                        writer.uint32(8).uint32(message.retryAfterMs);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                Drain.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.Drain();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.retryAfterMs = value;
                                else
                                    delete message.retryAfterMs;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return Drain;
            })();

            v1.Ping = (function() {

                const Ping = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                Ping.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                Ping.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.Ping();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        reader.skipType(tag & 7, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return Ping;
            })();

            v1.Pong = (function() {

                const Pong = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                Pong.prototype.storeMark = null;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(Pong.prototype, "_storeMark", {
                    get: $util.oneOfGetter($oneOfFields = ["storeMark"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                Pong.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.storeMark != null && $Object.hasOwnProperty.call(message, "storeMark"))
                        writer.uint32(10).bytes(message.storeMark);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                Pong.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.Pong();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                message.storeMark = reader.bytes();
                                message._storeMark = "storeMark";
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return Pong;
            })();

            v1.PreKeysLow = (function() {

                const PreKeysLow = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                PreKeysLow.prototype.oneTimePreKeys = 0;
                PreKeysLow.prototype.oneTimeKyberPreKeys = 0;

                PreKeysLow.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.oneTimePreKeys != null && $Object.hasOwnProperty.call(message, "oneTimePreKeys") && message.oneTimePreKeys !== 0)
                        writer.uint32(8).uint32(message.oneTimePreKeys);
                    if (message.oneTimeKyberPreKeys != null && $Object.hasOwnProperty.call(message, "oneTimeKyberPreKeys") && message.oneTimeKyberPreKeys !== 0)
                        writer.uint32(16).uint32(message.oneTimeKyberPreKeys);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                PreKeysLow.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.PreKeysLow();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.oneTimePreKeys = value;
                                else
                                    delete message.oneTimePreKeys;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.oneTimeKyberPreKeys = value;
                                else
                                    delete message.oneTimeKyberPreKeys;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return PreKeysLow;
            })();

            v1.GroupCreate = (function() {

                const GroupCreate = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupCreate.prototype.groupId = $util.newBuffer([]);
                GroupCreate.prototype.groupInfo = $util.newBuffer([]);
                GroupCreate.prototype.ratchetTree = $util.newBuffer([]);

                GroupCreate.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.groupId != null && $Object.hasOwnProperty.call(message, "groupId") && message.groupId.length)
                        writer.uint32(10).bytes(message.groupId);
                    if (message.groupInfo != null && $Object.hasOwnProperty.call(message, "groupInfo") && message.groupInfo.length)
                        writer.uint32(18).bytes(message.groupInfo);
                    if (message.ratchetTree != null && $Object.hasOwnProperty.call(message, "ratchetTree") && message.ratchetTree.length)
                        writer.uint32(26).bytes(message.ratchetTree);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupCreate.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupCreate();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.groupId = value;
                                else
                                    delete message.groupId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.groupInfo = value;
                                else
                                    delete message.groupInfo;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.ratchetTree = value;
                                else
                                    delete message.ratchetTree;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupCreate;
            })();

            v1.GroupAccess = (function() {

                const GroupAccess = function (properties) {
                    this.marks = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupAccess.prototype.groupId = $util.newBuffer([]);
                GroupAccess.prototype.epoch = 0;
                GroupAccess.prototype.leafIndex = 0;
                GroupAccess.prototype.signature = $util.newBuffer([]);
                GroupAccess.prototype.afterSequence = null;
                GroupAccess.prototype.marks = $util.emptyArray;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(GroupAccess.prototype, "_afterSequence", {
                    get: $util.oneOfGetter($oneOfFields = ["afterSequence"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                GroupAccess.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.groupId != null && $Object.hasOwnProperty.call(message, "groupId") && message.groupId.length)
                        writer.uint32(10).bytes(message.groupId);
                    if (message.epoch != null && $Object.hasOwnProperty.call(message, "epoch") && (typeof message.epoch === "object" ? message.epoch.low || message.epoch.high : message.epoch !== 0))
                        writer.uint32(16).uint64(message.epoch);
                    if (message.leafIndex != null && $Object.hasOwnProperty.call(message, "leafIndex") && message.leafIndex !== 0)
                        writer.uint32(24).uint32(message.leafIndex);
                    if (message.signature != null && $Object.hasOwnProperty.call(message, "signature") && message.signature.length)
                        writer.uint32(34).bytes(message.signature);
                    if (message.afterSequence != null && $Object.hasOwnProperty.call(message, "afterSequence"))
                        writer.uint32(40).uint64(message.afterSequence);
                    if (message.marks != null && message.marks.length)
                        for (let i = 0; i < message.marks.length; ++i)
                            $root.murmuration.wire.v1.GroupMark.encode(message.marks[i], writer.uint32(50).fork(), _depth + 1).ldelim();
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupAccess.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupAccess();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.groupId = value;
                                else
                                    delete message.groupId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.epoch = value;
                                else
                                    delete message.epoch;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.leafIndex = value;
                                else
                                    delete message.leafIndex;
                                continue;
                            }
                        case 4: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.signature = value;
                                else
                                    delete message.signature;
                                continue;
                            }
                        case 5: {
                                if (wireType !== 0)
                                    break;
                                message.afterSequence = reader.uint64();
                                message._afterSequence = "afterSequence";
                                continue;
                            }
                        case 6: {
                                if (wireType !== 2)
                                    break;
                                if (!(message.marks && message.marks.length))
                                    message.marks = [];
                                message.marks.push($root.murmuration.wire.v1.GroupMark.decode(reader, reader.size(), $undefined, _depth + 1));
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupAccess;
            })();

            v1.GroupMark = (function() {

                const GroupMark = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupMark.prototype.sequence = 0;
                GroupMark.prototype.hash = $util.newBuffer([]);

                GroupMark.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.sequence != null && $Object.hasOwnProperty.call(message, "sequence") && (typeof message.sequence === "object" ? message.sequence.low || message.sequence.high : message.sequence !== 0))
                        writer.uint32(8).uint64(message.sequence);
                    if (message.hash != null && $Object.hasOwnProperty.call(message, "hash") && message.hash.length)
                        writer.uint32(18).bytes(message.hash);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupMark.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupMark();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.sequence = value;
                                else
                                    delete message.sequence;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.hash = value;
                                else
                                    delete message.hash;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupMark;
            })();

            v1.GroupAcknowledge = (function() {

                const GroupAcknowledge = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupAcknowledge.prototype.groupId = $util.newBuffer([]);
                GroupAcknowledge.prototype.throughSequence = 0;

                GroupAcknowledge.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.groupId != null && $Object.hasOwnProperty.call(message, "groupId") && message.groupId.length)
                        writer.uint32(10).bytes(message.groupId);
                    if (message.throughSequence != null && $Object.hasOwnProperty.call(message, "throughSequence") && (typeof message.throughSequence === "object" ? message.throughSequence.low || message.throughSequence.high : message.throughSequence !== 0))
                        writer.uint32(16).uint64(message.throughSequence);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupAcknowledge.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupAcknowledge();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.groupId = value;
                                else
                                    delete message.groupId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.throughSequence = value;
                                else
                                    delete message.throughSequence;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupAcknowledge;
            })();

            v1.GroupSubmit = (function() {

                const GroupSubmit = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupSubmit.prototype.groupId = $util.newBuffer([]);
                GroupSubmit.prototype.submitId = $util.newBuffer([]);
                GroupSubmit.prototype.message = $util.newBuffer([]);
                GroupSubmit.prototype.mentions = null;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(GroupSubmit.prototype, "_mentions", {
                    get: $util.oneOfGetter($oneOfFields = ["mentions"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                GroupSubmit.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.groupId != null && $Object.hasOwnProperty.call(message, "groupId") && message.groupId.length)
                        writer.uint32(10).bytes(message.groupId);
                    if (message.submitId != null && $Object.hasOwnProperty.call(message, "submitId") && message.submitId.length)
                        writer.uint32(18).bytes(message.submitId);
                    if (message.message != null && $Object.hasOwnProperty.call(message, "message") && message.message.length)
                        writer.uint32(26).bytes(message.message);
                    if (message.mentions != null && $Object.hasOwnProperty.call(message, "mentions"))
                        $root.murmuration.wire.v1.GroupMentions.encode(message.mentions, writer.uint32(34).fork(), _depth + 1).ldelim();
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupSubmit.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupSubmit();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.groupId = value;
                                else
                                    delete message.groupId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.submitId = value;
                                else
                                    delete message.submitId;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.message = value;
                                else
                                    delete message.message;
                                continue;
                            }
                        case 4: {
                                if (wireType !== 2)
                                    break;
                                message.mentions = $root.murmuration.wire.v1.GroupMentions.decode(reader, reader.size(), $undefined, _depth + 1, message.mentions);
                                message._mentions = "mentions";
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupSubmit;
            })();

            v1.GroupMentions = (function() {

                const GroupMentions = function (properties) {
                    this.leaves = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupMentions.prototype.leaves = $util.emptyArray;
                GroupMentions.prototype.everybody = false;

                GroupMentions.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.leaves != null && message.leaves.length)
                        writer.uint32(10).uint32s(message.leaves);
                    if (message.everybody != null && $Object.hasOwnProperty.call(message, "everybody") && message.everybody !== false)
                        writer.uint32(16).bool(message.everybody);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupMentions.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupMentions();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType === 2) {
                                    if (!(message.leaves && message.leaves.length))
                                        message.leaves = [];
                                    reader.uint32s(message.leaves);
                                    continue;
                                }
                                if (wireType !== 0)
                                    break;
                                if (!(message.leaves && message.leaves.length))
                                    message.leaves = [];
                                message.leaves.push(reader.uint32());
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.bool())
                                    message.everybody = value;
                                else
                                    delete message.everybody;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupMentions;
            })();

            v1.GroupPushHandle = (function() {

                const GroupPushHandle = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupPushHandle.prototype.groupId = $util.newBuffer([]);
                GroupPushHandle.prototype.handle = null;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(GroupPushHandle.prototype, "_handle", {
                    get: $util.oneOfGetter($oneOfFields = ["handle"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                GroupPushHandle.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.groupId != null && $Object.hasOwnProperty.call(message, "groupId") && message.groupId.length)
                        writer.uint32(10).bytes(message.groupId);
                    if (message.handle != null && $Object.hasOwnProperty.call(message, "handle"))
                        writer.uint32(18).bytes(message.handle);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupPushHandle.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupPushHandle();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.groupId = value;
                                else
                                    delete message.groupId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                message.handle = reader.bytes();
                                message._handle = "handle";
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupPushHandle;
            })();

            v1.GroupCommit = (function() {

                const GroupCommit = function (properties) {
                    this.recipients = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupCommit.prototype.groupId = $util.newBuffer([]);
                GroupCommit.prototype.commit = $util.newBuffer([]);
                GroupCommit.prototype.groupInfo = $util.newBuffer([]);
                GroupCommit.prototype.welcome = null;
                GroupCommit.prototype.recipients = $util.emptyArray;
                GroupCommit.prototype.turn = null;
                GroupCommit.prototype.banList = null;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(GroupCommit.prototype, "_welcome", {
                    get: $util.oneOfGetter($oneOfFields = ["welcome"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(GroupCommit.prototype, "_turn", {
                    get: $util.oneOfGetter($oneOfFields = ["turn"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(GroupCommit.prototype, "_banList", {
                    get: $util.oneOfGetter($oneOfFields = ["banList"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                GroupCommit.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.groupId != null && $Object.hasOwnProperty.call(message, "groupId") && message.groupId.length)
                        writer.uint32(10).bytes(message.groupId);
                    if (message.commit != null && $Object.hasOwnProperty.call(message, "commit") && message.commit.length)
                        writer.uint32(18).bytes(message.commit);
                    if (message.groupInfo != null && $Object.hasOwnProperty.call(message, "groupInfo") && message.groupInfo.length)
                        writer.uint32(26).bytes(message.groupInfo);
                    if (message.welcome != null && $Object.hasOwnProperty.call(message, "welcome"))
                        writer.uint32(34).bytes(message.welcome);
                    if (message.recipients != null && message.recipients.length)
                        for (let i = 0; i < message.recipients.length; ++i)
                            $root.murmuration.wire.v1.WelcomeRecipient.encode(message.recipients[i], writer.uint32(42).fork(), _depth + 1).ldelim();
                    if (message.turn != null && $Object.hasOwnProperty.call(message, "turn"))
                        writer.uint32(48).uint64(message.turn);
                    if (message.banList != null && $Object.hasOwnProperty.call(message, "banList"))
                        writer.uint32(58).bytes(message.banList);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupCommit.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupCommit();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.groupId = value;
                                else
                                    delete message.groupId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.commit = value;
                                else
                                    delete message.commit;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.groupInfo = value;
                                else
                                    delete message.groupInfo;
                                continue;
                            }
                        case 4: {
                                if (wireType !== 2)
                                    break;
                                message.welcome = reader.bytes();
                                message._welcome = "welcome";
                                continue;
                            }
                        case 5: {
                                if (wireType !== 2)
                                    break;
                                if (!(message.recipients && message.recipients.length))
                                    message.recipients = [];
                                message.recipients.push($root.murmuration.wire.v1.WelcomeRecipient.decode(reader, reader.size(), $undefined, _depth + 1));
                                continue;
                            }
                        case 6: {
                                if (wireType !== 0)
                                    break;
                                message.turn = reader.uint64();
                                message._turn = "turn";
                                continue;
                            }
                        case 7: {
                                if (wireType !== 2)
                                    break;
                                message.banList = reader.bytes();
                                message._banList = "banList";
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupCommit;
            })();

            v1.WelcomeRecipient = (function() {

                const WelcomeRecipient = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                WelcomeRecipient.prototype.accountId = $util.newBuffer([]);
                WelcomeRecipient.prototype.deviceId = 0;

                WelcomeRecipient.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.accountId != null && $Object.hasOwnProperty.call(message, "accountId") && message.accountId.length)
                        writer.uint32(10).bytes(message.accountId);
                    if (message.deviceId != null && $Object.hasOwnProperty.call(message, "deviceId") && message.deviceId !== 0)
                        writer.uint32(16).uint32(message.deviceId);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                WelcomeRecipient.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.WelcomeRecipient();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.accountId = value;
                                else
                                    delete message.accountId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.deviceId = value;
                                else
                                    delete message.deviceId;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return WelcomeRecipient;
            })();

            v1.GroupPropose = (function() {

                const GroupPropose = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupPropose.prototype.groupId = $util.newBuffer([]);
                GroupPropose.prototype.proposal = $util.newBuffer([]);

                GroupPropose.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.groupId != null && $Object.hasOwnProperty.call(message, "groupId") && message.groupId.length)
                        writer.uint32(10).bytes(message.groupId);
                    if (message.proposal != null && $Object.hasOwnProperty.call(message, "proposal") && message.proposal.length)
                        writer.uint32(18).bytes(message.proposal);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupPropose.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupPropose();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.groupId = value;
                                else
                                    delete message.groupId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.proposal = value;
                                else
                                    delete message.proposal;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupPropose;
            })();

            v1.GroupTurnRelease = (function() {

                const GroupTurnRelease = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupTurnRelease.prototype.groupId = $util.newBuffer([]);
                GroupTurnRelease.prototype.turn = 0;

                GroupTurnRelease.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.groupId != null && $Object.hasOwnProperty.call(message, "groupId") && message.groupId.length)
                        writer.uint32(10).bytes(message.groupId);
                    if (message.turn != null && $Object.hasOwnProperty.call(message, "turn") && (typeof message.turn === "object" ? message.turn.low || message.turn.high : message.turn !== 0))
                        writer.uint32(16).uint64(message.turn);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupTurnRelease.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupTurnRelease();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.groupId = value;
                                else
                                    delete message.groupId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.turn = value;
                                else
                                    delete message.turn;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupTurnRelease;
            })();

            v1.GroupInfoRequest = (function() {

                const GroupInfoRequest = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupInfoRequest.prototype.groupId = $util.newBuffer([]);
                GroupInfoRequest.prototype.leaf = null;
                GroupInfoRequest.prototype.link = null;
                GroupInfoRequest.prototype.expected = null;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(GroupInfoRequest.prototype, "_leaf", {
                    get: $util.oneOfGetter($oneOfFields = ["leaf"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(GroupInfoRequest.prototype, "_link", {
                    get: $util.oneOfGetter($oneOfFields = ["link"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(GroupInfoRequest.prototype, "_expected", {
                    get: $util.oneOfGetter($oneOfFields = ["expected"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                GroupInfoRequest.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.groupId != null && $Object.hasOwnProperty.call(message, "groupId") && message.groupId.length)
                        writer.uint32(10).bytes(message.groupId);
                    if (message.leaf != null && $Object.hasOwnProperty.call(message, "leaf"))
                        $root.murmuration.wire.v1.GroupLeafProof.encode(message.leaf, writer.uint32(18).fork(), _depth + 1).ldelim();
                    if (message.link != null && $Object.hasOwnProperty.call(message, "link"))
                        $root.murmuration.wire.v1.GroupLinkProof.encode(message.link, writer.uint32(26).fork(), _depth + 1).ldelim();
                    if (message.expected != null && $Object.hasOwnProperty.call(message, "expected"))
                        $root.murmuration.wire.v1.GroupExpectedProof.encode(message.expected, writer.uint32(34).fork(), _depth + 1).ldelim();
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupInfoRequest.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupInfoRequest();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.groupId = value;
                                else
                                    delete message.groupId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                message.leaf = $root.murmuration.wire.v1.GroupLeafProof.decode(reader, reader.size(), $undefined, _depth + 1, message.leaf);
                                message._leaf = "leaf";
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                message.link = $root.murmuration.wire.v1.GroupLinkProof.decode(reader, reader.size(), $undefined, _depth + 1, message.link);
                                message._link = "link";
                                continue;
                            }
                        case 4: {
                                if (wireType !== 2)
                                    break;
                                message.expected = $root.murmuration.wire.v1.GroupExpectedProof.decode(reader, reader.size(), $undefined, _depth + 1, message.expected);
                                message._expected = "expected";
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupInfoRequest;
            })();

            v1.GroupLeafProof = (function() {

                const GroupLeafProof = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupLeafProof.prototype.signatureKey = $util.newBuffer([]);
                GroupLeafProof.prototype.signature = $util.newBuffer([]);

                GroupLeafProof.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.signatureKey != null && $Object.hasOwnProperty.call(message, "signatureKey") && message.signatureKey.length)
                        writer.uint32(10).bytes(message.signatureKey);
                    if (message.signature != null && $Object.hasOwnProperty.call(message, "signature") && message.signature.length)
                        writer.uint32(18).bytes(message.signature);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupLeafProof.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupLeafProof();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.signatureKey = value;
                                else
                                    delete message.signatureKey;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.signature = value;
                                else
                                    delete message.signature;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupLeafProof;
            })();

            v1.GroupLinkProof = (function() {

                const GroupLinkProof = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupLinkProof.prototype.linkId = $util.newBuffer([]);
                GroupLinkProof.prototype.signature = $util.newBuffer([]);

                GroupLinkProof.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.linkId != null && $Object.hasOwnProperty.call(message, "linkId") && message.linkId.length)
                        writer.uint32(10).bytes(message.linkId);
                    if (message.signature != null && $Object.hasOwnProperty.call(message, "signature") && message.signature.length)
                        writer.uint32(18).bytes(message.signature);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupLinkProof.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupLinkProof();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.linkId = value;
                                else
                                    delete message.linkId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.signature = value;
                                else
                                    delete message.signature;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupLinkProof;
            })();

            v1.GroupExpectedProof = (function() {

                const GroupExpectedProof = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupExpectedProof.prototype.signatureKey = $util.newBuffer([]);
                GroupExpectedProof.prototype.credential = $util.newBuffer([]);
                GroupExpectedProof.prototype.signature = $util.newBuffer([]);

                GroupExpectedProof.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.signatureKey != null && $Object.hasOwnProperty.call(message, "signatureKey") && message.signatureKey.length)
                        writer.uint32(10).bytes(message.signatureKey);
                    if (message.credential != null && $Object.hasOwnProperty.call(message, "credential") && message.credential.length)
                        writer.uint32(18).bytes(message.credential);
                    if (message.signature != null && $Object.hasOwnProperty.call(message, "signature") && message.signature.length)
                        writer.uint32(26).bytes(message.signature);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupExpectedProof.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupExpectedProof();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.signatureKey = value;
                                else
                                    delete message.signatureKey;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.credential = value;
                                else
                                    delete message.credential;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.signature = value;
                                else
                                    delete message.signature;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupExpectedProof;
            })();

            v1.GroupBan = (function() {

                const GroupBan = function (properties) {
                    this.signatureKeys = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupBan.prototype.groupId = $util.newBuffer([]);
                GroupBan.prototype.leafIndex = 0;
                GroupBan.prototype.orderId = $util.newBuffer([]);
                GroupBan.prototype.signatureKeys = $util.emptyArray;
                GroupBan.prototype.signature = $util.newBuffer([]);

                GroupBan.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.groupId != null && $Object.hasOwnProperty.call(message, "groupId") && message.groupId.length)
                        writer.uint32(10).bytes(message.groupId);
                    if (message.leafIndex != null && $Object.hasOwnProperty.call(message, "leafIndex") && message.leafIndex !== 0)
                        writer.uint32(16).uint32(message.leafIndex);
                    if (message.orderId != null && $Object.hasOwnProperty.call(message, "orderId") && message.orderId.length)
                        writer.uint32(26).bytes(message.orderId);
                    if (message.signatureKeys != null && message.signatureKeys.length)
                        for (let i = 0; i < message.signatureKeys.length; ++i)
                            writer.uint32(34).bytes(message.signatureKeys[i]);
                    if (message.signature != null && $Object.hasOwnProperty.call(message, "signature") && message.signature.length)
                        writer.uint32(42).bytes(message.signature);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupBan.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupBan();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.groupId = value;
                                else
                                    delete message.groupId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.leafIndex = value;
                                else
                                    delete message.leafIndex;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.orderId = value;
                                else
                                    delete message.orderId;
                                continue;
                            }
                        case 4: {
                                if (wireType !== 2)
                                    break;
                                if (!(message.signatureKeys && message.signatureKeys.length))
                                    message.signatureKeys = [];
                                message.signatureKeys.push(reader.bytes());
                                continue;
                            }
                        case 5: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.signature = value;
                                else
                                    delete message.signature;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupBan;
            })();

            v1.GroupRefuse = (function() {

                const GroupRefuse = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupRefuse.prototype.groupId = $util.newBuffer([]);
                GroupRefuse.prototype.sequence = 0;
                GroupRefuse.prototype.signature = $util.newBuffer([]);
                GroupRefuse.prototype.commitHash = $util.newBuffer([]);

                GroupRefuse.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.groupId != null && $Object.hasOwnProperty.call(message, "groupId") && message.groupId.length)
                        writer.uint32(10).bytes(message.groupId);
                    if (message.sequence != null && $Object.hasOwnProperty.call(message, "sequence") && (typeof message.sequence === "object" ? message.sequence.low || message.sequence.high : message.sequence !== 0))
                        writer.uint32(16).uint64(message.sequence);
                    if (message.signature != null && $Object.hasOwnProperty.call(message, "signature") && message.signature.length)
                        writer.uint32(26).bytes(message.signature);
                    if (message.commitHash != null && $Object.hasOwnProperty.call(message, "commitHash") && message.commitHash.length)
                        writer.uint32(34).bytes(message.commitHash);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupRefuse.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupRefuse();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.groupId = value;
                                else
                                    delete message.groupId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.sequence = value;
                                else
                                    delete message.sequence;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.signature = value;
                                else
                                    delete message.signature;
                                continue;
                            }
                        case 4: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.commitHash = value;
                                else
                                    delete message.commitHash;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupRefuse;
            })();

            v1.GroupRefeed = (function() {

                const GroupRefeed = function (properties) {
                    this.commits = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupRefeed.prototype.groupId = $util.newBuffer([]);
                GroupRefeed.prototype.commits = $util.emptyArray;
                GroupRefeed.prototype.groupInfo = null;
                GroupRefeed.prototype.agreedSequence = 0;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(GroupRefeed.prototype, "_groupInfo", {
                    get: $util.oneOfGetter($oneOfFields = ["groupInfo"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                GroupRefeed.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.groupId != null && $Object.hasOwnProperty.call(message, "groupId") && message.groupId.length)
                        writer.uint32(10).bytes(message.groupId);
                    if (message.commits != null && message.commits.length)
                        for (let i = 0; i < message.commits.length; ++i)
                            $root.murmuration.wire.v1.GroupPastCommit.encode(message.commits[i], writer.uint32(18).fork(), _depth + 1).ldelim();
                    if (message.groupInfo != null && $Object.hasOwnProperty.call(message, "groupInfo"))
                        writer.uint32(26).bytes(message.groupInfo);
                    if (message.agreedSequence != null && $Object.hasOwnProperty.call(message, "agreedSequence") && (typeof message.agreedSequence === "object" ? message.agreedSequence.low || message.agreedSequence.high : message.agreedSequence !== 0))
                        writer.uint32(32).uint64(message.agreedSequence);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupRefeed.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupRefeed();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.groupId = value;
                                else
                                    delete message.groupId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if (!(message.commits && message.commits.length))
                                    message.commits = [];
                                message.commits.push($root.murmuration.wire.v1.GroupPastCommit.decode(reader, reader.size(), $undefined, _depth + 1));
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                message.groupInfo = reader.bytes();
                                message._groupInfo = "groupInfo";
                                continue;
                            }
                        case 4: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.agreedSequence = value;
                                else
                                    delete message.agreedSequence;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupRefeed;
            })();

            v1.GroupPastCommit = (function() {

                const GroupPastCommit = function (properties) {
                    this.proposals = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupPastCommit.prototype.commit = $util.newBuffer([]);
                GroupPastCommit.prototype.proposals = $util.emptyArray;
                GroupPastCommit.prototype.banList = null;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(GroupPastCommit.prototype, "_banList", {
                    get: $util.oneOfGetter($oneOfFields = ["banList"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                GroupPastCommit.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.commit != null && $Object.hasOwnProperty.call(message, "commit") && message.commit.length)
                        writer.uint32(10).bytes(message.commit);
                    if (message.proposals != null && message.proposals.length)
                        for (let i = 0; i < message.proposals.length; ++i)
                            writer.uint32(18).bytes(message.proposals[i]);
                    if (message.banList != null && $Object.hasOwnProperty.call(message, "banList"))
                        writer.uint32(26).bytes(message.banList);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupPastCommit.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupPastCommit();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.commit = value;
                                else
                                    delete message.commit;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if (!(message.proposals && message.proposals.length))
                                    message.proposals = [];
                                message.proposals.push(reader.bytes());
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                message.banList = reader.bytes();
                                message._banList = "banList";
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupPastCommit;
            })();

            v1.GroupCreated = (function() {

                const GroupCreated = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupCreated.prototype.lastSequence = 0;

                GroupCreated.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.lastSequence != null && $Object.hasOwnProperty.call(message, "lastSequence") && (typeof message.lastSequence === "object" ? message.lastSequence.low || message.lastSequence.high : message.lastSequence !== 0))
                        writer.uint32(8).uint64(message.lastSequence);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupCreated.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupCreated();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.lastSequence = value;
                                else
                                    delete message.lastSequence;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupCreated;
            })();

            v1.GroupAccessGranted = (function() {

                const GroupAccessGranted = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupAccessGranted.prototype.epoch = 0;
                GroupAccessGranted.prototype.firstSequence = 0;
                GroupAccessGranted.prototype.lastSequence = 0;
                GroupAccessGranted.prototype.removed = false;
                GroupAccessGranted.prototype.agreedSequence = 0;
                GroupAccessGranted.prototype.commitHash = null;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(GroupAccessGranted.prototype, "_commitHash", {
                    get: $util.oneOfGetter($oneOfFields = ["commitHash"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                GroupAccessGranted.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.epoch != null && $Object.hasOwnProperty.call(message, "epoch") && (typeof message.epoch === "object" ? message.epoch.low || message.epoch.high : message.epoch !== 0))
                        writer.uint32(8).uint64(message.epoch);
                    if (message.firstSequence != null && $Object.hasOwnProperty.call(message, "firstSequence") && (typeof message.firstSequence === "object" ? message.firstSequence.low || message.firstSequence.high : message.firstSequence !== 0))
                        writer.uint32(16).uint64(message.firstSequence);
                    if (message.lastSequence != null && $Object.hasOwnProperty.call(message, "lastSequence") && (typeof message.lastSequence === "object" ? message.lastSequence.low || message.lastSequence.high : message.lastSequence !== 0))
                        writer.uint32(24).uint64(message.lastSequence);
                    if (message.removed != null && $Object.hasOwnProperty.call(message, "removed") && message.removed !== false)
                        writer.uint32(32).bool(message.removed);
                    if (message.agreedSequence != null && $Object.hasOwnProperty.call(message, "agreedSequence") && (typeof message.agreedSequence === "object" ? message.agreedSequence.low || message.agreedSequence.high : message.agreedSequence !== 0))
                        writer.uint32(40).uint64(message.agreedSequence);
                    if (message.commitHash != null && $Object.hasOwnProperty.call(message, "commitHash"))
                        writer.uint32(50).bytes(message.commitHash);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupAccessGranted.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupAccessGranted();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.epoch = value;
                                else
                                    delete message.epoch;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.firstSequence = value;
                                else
                                    delete message.firstSequence;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.lastSequence = value;
                                else
                                    delete message.lastSequence;
                                continue;
                            }
                        case 4: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.bool())
                                    message.removed = value;
                                else
                                    delete message.removed;
                                continue;
                            }
                        case 5: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.agreedSequence = value;
                                else
                                    delete message.agreedSequence;
                                continue;
                            }
                        case 6: {
                                if (wireType !== 2)
                                    break;
                                message.commitHash = reader.bytes();
                                message._commitHash = "commitHash";
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupAccessGranted;
            })();

            v1.GroupEntries = (function() {

                const GroupEntries = function (properties) {
                    this.entries = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupEntries.prototype.groupId = $util.newBuffer([]);
                GroupEntries.prototype.entries = $util.emptyArray;
                GroupEntries.prototype.lastSequence = 0;

                GroupEntries.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.groupId != null && $Object.hasOwnProperty.call(message, "groupId") && message.groupId.length)
                        writer.uint32(10).bytes(message.groupId);
                    if (message.entries != null && message.entries.length)
                        for (let i = 0; i < message.entries.length; ++i)
                            $root.murmuration.wire.v1.GroupEntry.encode(message.entries[i], writer.uint32(18).fork(), _depth + 1).ldelim();
                    if (message.lastSequence != null && $Object.hasOwnProperty.call(message, "lastSequence") && (typeof message.lastSequence === "object" ? message.lastSequence.low || message.lastSequence.high : message.lastSequence !== 0))
                        writer.uint32(24).uint64(message.lastSequence);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupEntries.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupEntries();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.groupId = value;
                                else
                                    delete message.groupId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if (!(message.entries && message.entries.length))
                                    message.entries = [];
                                message.entries.push($root.murmuration.wire.v1.GroupEntry.decode(reader, reader.size(), $undefined, _depth + 1));
                                continue;
                            }
                        case 3: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.lastSequence = value;
                                else
                                    delete message.lastSequence;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupEntries;
            })();

            v1.GroupEntry = (function() {

                const GroupEntry = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupEntry.prototype.sequence = 0;
                GroupEntry.prototype.serverTimeMs = 0;
                GroupEntry.prototype.application = null;
                GroupEntry.prototype.proposal = null;
                GroupEntry.prototype.commit = null;
                GroupEntry.prototype["void"] = null;

                let $oneOfFields;

                $Object.defineProperty(GroupEntry.prototype, "content", {
                    get: $util.oneOfGetter($oneOfFields = ["application", "proposal", "commit", "void"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                GroupEntry.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.sequence != null && $Object.hasOwnProperty.call(message, "sequence") && (typeof message.sequence === "object" ? message.sequence.low || message.sequence.high : message.sequence !== 0))
                        writer.uint32(8).uint64(message.sequence);
                    if (message.serverTimeMs != null && $Object.hasOwnProperty.call(message, "serverTimeMs") && (typeof message.serverTimeMs === "object" ? message.serverTimeMs.low || message.serverTimeMs.high : message.serverTimeMs !== 0))
                        writer.uint32(16).uint64(message.serverTimeMs);
                    if (message.application != null && $Object.hasOwnProperty.call(message, "application"))
                        $root.murmuration.wire.v1.GroupApplication.encode(message.application, writer.uint32(130).fork(), _depth + 1).ldelim();
                    if (message.proposal != null && $Object.hasOwnProperty.call(message, "proposal"))
                        $root.murmuration.wire.v1.GroupProposal.encode(message.proposal, writer.uint32(138).fork(), _depth + 1).ldelim();
                    if (message.commit != null && $Object.hasOwnProperty.call(message, "commit"))
                        $root.murmuration.wire.v1.GroupCommitEntry.encode(message.commit, writer.uint32(146).fork(), _depth + 1).ldelim();
                    if (message["void"] != null && $Object.hasOwnProperty.call(message, "void"))
                        $root.murmuration.wire.v1.GroupVoid.encode(message["void"], writer.uint32(154).fork(), _depth + 1).ldelim();
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupEntry.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupEntry();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.sequence = value;
                                else
                                    delete message.sequence;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.serverTimeMs = value;
                                else
                                    delete message.serverTimeMs;
                                continue;
                            }
                        case 16: {
                                if (wireType !== 2)
                                    break;
                                message.application = $root.murmuration.wire.v1.GroupApplication.decode(reader, reader.size(), $undefined, _depth + 1, message.application);
                                message.content = "application";
                                continue;
                            }
                        case 17: {
                                if (wireType !== 2)
                                    break;
                                message.proposal = $root.murmuration.wire.v1.GroupProposal.decode(reader, reader.size(), $undefined, _depth + 1, message.proposal);
                                message.content = "proposal";
                                continue;
                            }
                        case 18: {
                                if (wireType !== 2)
                                    break;
                                message.commit = $root.murmuration.wire.v1.GroupCommitEntry.decode(reader, reader.size(), $undefined, _depth + 1, message.commit);
                                message.content = "commit";
                                continue;
                            }
                        case 19: {
                                if (wireType !== 2)
                                    break;
                                message["void"] = $root.murmuration.wire.v1.GroupVoid.decode(reader, reader.size(), $undefined, _depth + 1, message["void"]);
                                message.content = "void";
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupEntry;
            })();

            v1.GroupApplication = (function() {

                const GroupApplication = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupApplication.prototype.message = $util.newBuffer([]);

                GroupApplication.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.message != null && $Object.hasOwnProperty.call(message, "message") && message.message.length)
                        writer.uint32(10).bytes(message.message);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupApplication.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupApplication();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.message = value;
                                else
                                    delete message.message;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupApplication;
            })();

            v1.GroupProposal = (function() {

                const GroupProposal = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupProposal.prototype.proposal = $util.newBuffer([]);

                GroupProposal.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.proposal != null && $Object.hasOwnProperty.call(message, "proposal") && message.proposal.length)
                        writer.uint32(10).bytes(message.proposal);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupProposal.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupProposal();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.proposal = value;
                                else
                                    delete message.proposal;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupProposal;
            })();

            v1.GroupCommitEntry = (function() {

                const GroupCommitEntry = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupCommitEntry.prototype.commit = $util.newBuffer([]);
                GroupCommitEntry.prototype.banList = null;
                GroupCommitEntry.prototype.partedSequence = null;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(GroupCommitEntry.prototype, "_banList", {
                    get: $util.oneOfGetter($oneOfFields = ["banList"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(GroupCommitEntry.prototype, "_partedSequence", {
                    get: $util.oneOfGetter($oneOfFields = ["partedSequence"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                GroupCommitEntry.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.commit != null && $Object.hasOwnProperty.call(message, "commit") && message.commit.length)
                        writer.uint32(10).bytes(message.commit);
                    if (message.banList != null && $Object.hasOwnProperty.call(message, "banList"))
                        writer.uint32(18).bytes(message.banList);
                    if (message.partedSequence != null && $Object.hasOwnProperty.call(message, "partedSequence"))
                        writer.uint32(24).uint64(message.partedSequence);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupCommitEntry.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupCommitEntry();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.commit = value;
                                else
                                    delete message.commit;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                message.banList = reader.bytes();
                                message._banList = "banList";
                                continue;
                            }
                        case 3: {
                                if (wireType !== 0)
                                    break;
                                message.partedSequence = reader.uint64();
                                message._partedSequence = "partedSequence";
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupCommitEntry;
            })();

            v1.GroupVoid = (function() {

                const GroupVoid = function (properties) {
                    this.refusals = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupVoid.prototype.sequence = 0;
                GroupVoid.prototype.refusals = $util.emptyArray;

                GroupVoid.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.sequence != null && $Object.hasOwnProperty.call(message, "sequence") && (typeof message.sequence === "object" ? message.sequence.low || message.sequence.high : message.sequence !== 0))
                        writer.uint32(8).uint64(message.sequence);
                    if (message.refusals != null && message.refusals.length)
                        for (let i = 0; i < message.refusals.length; ++i)
                            $root.murmuration.wire.v1.GroupRefusal.encode(message.refusals[i], writer.uint32(18).fork(), _depth + 1).ldelim();
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupVoid.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupVoid();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.sequence = value;
                                else
                                    delete message.sequence;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if (!(message.refusals && message.refusals.length))
                                    message.refusals = [];
                                message.refusals.push($root.murmuration.wire.v1.GroupRefusal.decode(reader, reader.size(), $undefined, _depth + 1));
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupVoid;
            })();

            v1.GroupRefusal = (function() {

                const GroupRefusal = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupRefusal.prototype.leafIndex = 0;
                GroupRefusal.prototype.signature = $util.newBuffer([]);

                GroupRefusal.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.leafIndex != null && $Object.hasOwnProperty.call(message, "leafIndex") && message.leafIndex !== 0)
                        writer.uint32(8).uint32(message.leafIndex);
                    if (message.signature != null && $Object.hasOwnProperty.call(message, "signature") && message.signature.length)
                        writer.uint32(18).bytes(message.signature);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupRefusal.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupRefusal();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.leafIndex = value;
                                else
                                    delete message.leafIndex;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.signature = value;
                                else
                                    delete message.signature;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupRefusal;
            })();

            v1.GroupSubmitAccepted = (function() {

                const GroupSubmitAccepted = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupSubmitAccepted.prototype.sequence = 0;
                GroupSubmitAccepted.prototype.serverTimeMs = 0;
                GroupSubmitAccepted.prototype.repeatedSubmit = false;

                GroupSubmitAccepted.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.sequence != null && $Object.hasOwnProperty.call(message, "sequence") && (typeof message.sequence === "object" ? message.sequence.low || message.sequence.high : message.sequence !== 0))
                        writer.uint32(8).uint64(message.sequence);
                    if (message.serverTimeMs != null && $Object.hasOwnProperty.call(message, "serverTimeMs") && (typeof message.serverTimeMs === "object" ? message.serverTimeMs.low || message.serverTimeMs.high : message.serverTimeMs !== 0))
                        writer.uint32(16).uint64(message.serverTimeMs);
                    if (message.repeatedSubmit != null && $Object.hasOwnProperty.call(message, "repeatedSubmit") && message.repeatedSubmit !== false)
                        writer.uint32(24).bool(message.repeatedSubmit);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupSubmitAccepted.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupSubmitAccepted();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.sequence = value;
                                else
                                    delete message.sequence;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.serverTimeMs = value;
                                else
                                    delete message.serverTimeMs;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.bool())
                                    message.repeatedSubmit = value;
                                else
                                    delete message.repeatedSubmit;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupSubmitAccepted;
            })();

            v1.GroupCommitAccepted = (function() {

                const GroupCommitAccepted = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupCommitAccepted.prototype.sequence = 0;
                GroupCommitAccepted.prototype.epoch = 0;
                GroupCommitAccepted.prototype.repeatedCommit = false;

                GroupCommitAccepted.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.sequence != null && $Object.hasOwnProperty.call(message, "sequence") && (typeof message.sequence === "object" ? message.sequence.low || message.sequence.high : message.sequence !== 0))
                        writer.uint32(8).uint64(message.sequence);
                    if (message.epoch != null && $Object.hasOwnProperty.call(message, "epoch") && (typeof message.epoch === "object" ? message.epoch.low || message.epoch.high : message.epoch !== 0))
                        writer.uint32(16).uint64(message.epoch);
                    if (message.repeatedCommit != null && $Object.hasOwnProperty.call(message, "repeatedCommit") && message.repeatedCommit !== false)
                        writer.uint32(24).bool(message.repeatedCommit);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupCommitAccepted.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupCommitAccepted();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.sequence = value;
                                else
                                    delete message.sequence;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.epoch = value;
                                else
                                    delete message.epoch;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.bool())
                                    message.repeatedCommit = value;
                                else
                                    delete message.repeatedCommit;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupCommitAccepted;
            })();

            v1.GroupCommitLost = (function() {

                const GroupCommitLost = function (properties) {
                    this.entries = [];
                    this.proposals = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupCommitLost.prototype.epoch = 0;
                GroupCommitLost.prototype.entries = $util.emptyArray;
                GroupCommitLost.prototype.proposals = $util.emptyArray;
                GroupCommitLost.prototype.place = 0;
                GroupCommitLost.prototype.turn = null;
                GroupCommitLost.prototype.turnExpiresInMs = null;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(GroupCommitLost.prototype, "_turn", {
                    get: $util.oneOfGetter($oneOfFields = ["turn"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(GroupCommitLost.prototype, "_turnExpiresInMs", {
                    get: $util.oneOfGetter($oneOfFields = ["turnExpiresInMs"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                GroupCommitLost.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.epoch != null && $Object.hasOwnProperty.call(message, "epoch") && (typeof message.epoch === "object" ? message.epoch.low || message.epoch.high : message.epoch !== 0))
                        writer.uint32(8).uint64(message.epoch);
                    if (message.entries != null && message.entries.length)
                        for (let i = 0; i < message.entries.length; ++i)
                            $root.murmuration.wire.v1.GroupEntry.encode(message.entries[i], writer.uint32(18).fork(), _depth + 1).ldelim();
                    if (message.proposals != null && message.proposals.length)
                        for (let i = 0; i < message.proposals.length; ++i)
                            writer.uint32(26).bytes(message.proposals[i]);
                    if (message.place != null && $Object.hasOwnProperty.call(message, "place") && message.place !== 0)
                        writer.uint32(32).uint32(message.place);
                    if (message.turn != null && $Object.hasOwnProperty.call(message, "turn"))
                        writer.uint32(40).uint64(message.turn);
                    if (message.turnExpiresInMs != null && $Object.hasOwnProperty.call(message, "turnExpiresInMs"))
                        writer.uint32(48).uint32(message.turnExpiresInMs);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupCommitLost.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupCommitLost();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.epoch = value;
                                else
                                    delete message.epoch;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if (!(message.entries && message.entries.length))
                                    message.entries = [];
                                message.entries.push($root.murmuration.wire.v1.GroupEntry.decode(reader, reader.size(), $undefined, _depth + 1));
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if (!(message.proposals && message.proposals.length))
                                    message.proposals = [];
                                message.proposals.push(reader.bytes());
                                continue;
                            }
                        case 4: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.place = value;
                                else
                                    delete message.place;
                                continue;
                            }
                        case 5: {
                                if (wireType !== 0)
                                    break;
                                message.turn = reader.uint64();
                                message._turn = "turn";
                                continue;
                            }
                        case 6: {
                                if (wireType !== 0)
                                    break;
                                message.turnExpiresInMs = reader.uint32();
                                message._turnExpiresInMs = "turnExpiresInMs";
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupCommitLost;
            })();

            v1.GroupProposeAccepted = (function() {

                const GroupProposeAccepted = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupProposeAccepted.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupProposeAccepted.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupProposeAccepted();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        reader.skipType(tag & 7, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupProposeAccepted;
            })();

            v1.TurnReason = (function() {
                const valuesById = $Object.create(null), values = $Object.create(valuesById);
                values[valuesById[0] = "TURN_REASON_UNSPECIFIED"] = 0;
                values[valuesById[1] = "TURN_REASON_LINE"] = 1;
                values[valuesById[2] = "TURN_REASON_PROPOSALS"] = 2;
                values[valuesById[3] = "TURN_REASON_WARM_UP"] = 3;
                values[valuesById[4] = "TURN_REASON_BAN"] = 4;
                return values;
            })();

            v1.GroupTurn = (function() {

                const GroupTurn = function (properties) {
                    this.proposals = [];
                    this.bannedLeaves = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupTurn.prototype.groupId = $util.newBuffer([]);
                GroupTurn.prototype.turn = 0;
                GroupTurn.prototype.reason = 0;
                GroupTurn.prototype.expiresInMs = 0;
                GroupTurn.prototype.proposals = $util.emptyArray;
                GroupTurn.prototype.bannedLeaves = $util.emptyArray;

                GroupTurn.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.groupId != null && $Object.hasOwnProperty.call(message, "groupId") && message.groupId.length)
                        writer.uint32(10).bytes(message.groupId);
                    if (message.turn != null && $Object.hasOwnProperty.call(message, "turn") && (typeof message.turn === "object" ? message.turn.low || message.turn.high : message.turn !== 0))
                        writer.uint32(16).uint64(message.turn);
                    if (message.reason != null && $Object.hasOwnProperty.call(message, "reason") && message.reason !== 0)
                        writer.uint32(24).int32(message.reason);
                    if (message.expiresInMs != null && $Object.hasOwnProperty.call(message, "expiresInMs") && message.expiresInMs !== 0)
                        writer.uint32(32).uint32(message.expiresInMs);
                    if (message.proposals != null && message.proposals.length)
                        for (let i = 0; i < message.proposals.length; ++i)
                            writer.uint32(42).bytes(message.proposals[i]);
                    if (message.bannedLeaves != null && message.bannedLeaves.length)
                        writer.uint32(50).uint32s(message.bannedLeaves);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupTurn.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupTurn();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.groupId = value;
                                else
                                    delete message.groupId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.turn = value;
                                else
                                    delete message.turn;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.int32())
                                    message.reason = value;
                                else
                                    delete message.reason;
                                continue;
                            }
                        case 4: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.expiresInMs = value;
                                else
                                    delete message.expiresInMs;
                                continue;
                            }
                        case 5: {
                                if (wireType !== 2)
                                    break;
                                if (!(message.proposals && message.proposals.length))
                                    message.proposals = [];
                                message.proposals.push(reader.bytes());
                                continue;
                            }
                        case 6: {
                                if (wireType === 2) {
                                    if (!(message.bannedLeaves && message.bannedLeaves.length))
                                        message.bannedLeaves = [];
                                    reader.uint32s(message.bannedLeaves);
                                    continue;
                                }
                                if (wireType !== 0)
                                    break;
                                if (!(message.bannedLeaves && message.bannedLeaves.length))
                                    message.bannedLeaves = [];
                                message.bannedLeaves.push(reader.uint32());
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupTurn;
            })();

            v1.GroupInfoReply = (function() {

                const GroupInfoReply = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupInfoReply.prototype.epoch = 0;
                GroupInfoReply.prototype.lastSequence = 0;
                GroupInfoReply.prototype.groupInfo = $util.newBuffer([]);
                GroupInfoReply.prototype.treeHash = $util.newBuffer([]);
                GroupInfoReply.prototype.banList = null;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(GroupInfoReply.prototype, "_banList", {
                    get: $util.oneOfGetter($oneOfFields = ["banList"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                GroupInfoReply.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.epoch != null && $Object.hasOwnProperty.call(message, "epoch") && (typeof message.epoch === "object" ? message.epoch.low || message.epoch.high : message.epoch !== 0))
                        writer.uint32(8).uint64(message.epoch);
                    if (message.lastSequence != null && $Object.hasOwnProperty.call(message, "lastSequence") && (typeof message.lastSequence === "object" ? message.lastSequence.low || message.lastSequence.high : message.lastSequence !== 0))
                        writer.uint32(16).uint64(message.lastSequence);
                    if (message.groupInfo != null && $Object.hasOwnProperty.call(message, "groupInfo") && message.groupInfo.length)
                        writer.uint32(26).bytes(message.groupInfo);
                    if (message.treeHash != null && $Object.hasOwnProperty.call(message, "treeHash") && message.treeHash.length)
                        writer.uint32(34).bytes(message.treeHash);
                    if (message.banList != null && $Object.hasOwnProperty.call(message, "banList"))
                        writer.uint32(42).bytes(message.banList);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupInfoReply.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupInfoReply();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.epoch = value;
                                else
                                    delete message.epoch;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.lastSequence = value;
                                else
                                    delete message.lastSequence;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.groupInfo = value;
                                else
                                    delete message.groupInfo;
                                continue;
                            }
                        case 4: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.treeHash = value;
                                else
                                    delete message.treeHash;
                                continue;
                            }
                        case 5: {
                                if (wireType !== 2)
                                    break;
                                message.banList = reader.bytes();
                                message._banList = "banList";
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupInfoReply;
            })();

            v1.GroupDone = (function() {

                const GroupDone = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupDone.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupDone.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupDone();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        reader.skipType(tag & 7, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupDone;
            })();

            v1.KeyPackagesLow = (function() {

                const KeyPackagesLow = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                KeyPackagesLow.prototype.keyPackages = 0;

                KeyPackagesLow.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.keyPackages != null && $Object.hasOwnProperty.call(message, "keyPackages") && message.keyPackages !== 0)
                        writer.uint32(8).uint32(message.keyPackages);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                KeyPackagesLow.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.KeyPackagesLow();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.keyPackages = value;
                                else
                                    delete message.keyPackages;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return KeyPackagesLow;
            })();

            v1.ServiceInfo = (function() {

                const ServiceInfo = function (properties) {
                    this.versions = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                ServiceInfo.prototype.versions = $util.emptyArray;
                ServiceInfo.prototype.storeId = $util.newBuffer([]);
                ServiceInfo.prototype.certificateTrustRoot = $util.newBuffer([]);
                ServiceInfo.prototype.serverTimeMs = 0;

                ServiceInfo.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.versions != null && message.versions.length)
                        writer.uint32(10).uint32s(message.versions);
                    if (message.storeId != null && $Object.hasOwnProperty.call(message, "storeId") && message.storeId.length)
                        writer.uint32(18).bytes(message.storeId);
                    if (message.certificateTrustRoot != null && $Object.hasOwnProperty.call(message, "certificateTrustRoot") && message.certificateTrustRoot.length)
                        writer.uint32(26).bytes(message.certificateTrustRoot);
                    if (message.serverTimeMs != null && $Object.hasOwnProperty.call(message, "serverTimeMs") && (typeof message.serverTimeMs === "object" ? message.serverTimeMs.low || message.serverTimeMs.high : message.serverTimeMs !== 0))
                        writer.uint32(32).uint64(message.serverTimeMs);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                ServiceInfo.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.ServiceInfo();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType === 2) {
                                    if (!(message.versions && message.versions.length))
                                        message.versions = [];
                                    reader.uint32s(message.versions);
                                    continue;
                                }
                                if (wireType !== 0)
                                    break;
                                if (!(message.versions && message.versions.length))
                                    message.versions = [];
                                message.versions.push(reader.uint32());
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.storeId = value;
                                else
                                    delete message.storeId;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.certificateTrustRoot = value;
                                else
                                    delete message.certificateTrustRoot;
                                continue;
                            }
                        case 4: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.serverTimeMs = value;
                                else
                                    delete message.serverTimeMs;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return ServiceInfo;
            })();

            v1.RegisterRequest = (function() {

                const RegisterRequest = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                RegisterRequest.prototype.accountId = $util.newBuffer([]);
                RegisterRequest.prototype.accountIdentityKey = $util.newBuffer([]);
                RegisterRequest.prototype.deviceList = $util.newBuffer([]);
                RegisterRequest.prototype.device = null;
                RegisterRequest.prototype.accessKey = $util.newBuffer([]);
                RegisterRequest.prototype.preKeys = null;
                RegisterRequest.prototype.inviteCode = null;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(RegisterRequest.prototype, "_inviteCode", {
                    get: $util.oneOfGetter($oneOfFields = ["inviteCode"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                RegisterRequest.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.accountId != null && $Object.hasOwnProperty.call(message, "accountId") && message.accountId.length)
                        writer.uint32(10).bytes(message.accountId);
                    if (message.accountIdentityKey != null && $Object.hasOwnProperty.call(message, "accountIdentityKey") && message.accountIdentityKey.length)
                        writer.uint32(18).bytes(message.accountIdentityKey);
                    if (message.deviceList != null && $Object.hasOwnProperty.call(message, "deviceList") && message.deviceList.length)
                        writer.uint32(26).bytes(message.deviceList);
                    if (message.device != null && $Object.hasOwnProperty.call(message, "device"))
                        $root.murmuration.wire.v1.NewDevice.encode(message.device, writer.uint32(34).fork(), _depth + 1).ldelim();
                    if (message.accessKey != null && $Object.hasOwnProperty.call(message, "accessKey") && message.accessKey.length)
                        writer.uint32(42).bytes(message.accessKey);
                    if (message.preKeys != null && $Object.hasOwnProperty.call(message, "preKeys"))
                        $root.murmuration.wire.v1.PreKeyUpload.encode(message.preKeys, writer.uint32(50).fork(), _depth + 1).ldelim();
                    if (message.inviteCode != null && $Object.hasOwnProperty.call(message, "inviteCode"))
                        writer.uint32(58).bytes(message.inviteCode);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                RegisterRequest.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.RegisterRequest();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.accountId = value;
                                else
                                    delete message.accountId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.accountIdentityKey = value;
                                else
                                    delete message.accountIdentityKey;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.deviceList = value;
                                else
                                    delete message.deviceList;
                                continue;
                            }
                        case 4: {
                                if (wireType !== 2)
                                    break;
                                message.device = $root.murmuration.wire.v1.NewDevice.decode(reader, reader.size(), $undefined, _depth + 1, message.device);
                                continue;
                            }
                        case 5: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.accessKey = value;
                                else
                                    delete message.accessKey;
                                continue;
                            }
                        case 6: {
                                if (wireType !== 2)
                                    break;
                                message.preKeys = $root.murmuration.wire.v1.PreKeyUpload.decode(reader, reader.size(), $undefined, _depth + 1, message.preKeys);
                                continue;
                            }
                        case 7: {
                                if (wireType !== 2)
                                    break;
                                message.inviteCode = reader.bytes();
                                message._inviteCode = "inviteCode";
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return RegisterRequest;
            })();

            v1.NewDevice = (function() {

                const NewDevice = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                NewDevice.prototype.deviceId = 0;
                NewDevice.prototype.registrationId = 0;
                NewDevice.prototype.identityKey = $util.newBuffer([]);
                NewDevice.prototype.tokenHash = $util.newBuffer([]);

                NewDevice.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.deviceId != null && $Object.hasOwnProperty.call(message, "deviceId") && message.deviceId !== 0)
                        writer.uint32(8).uint32(message.deviceId);
                    if (message.registrationId != null && $Object.hasOwnProperty.call(message, "registrationId") && message.registrationId !== 0)
                        writer.uint32(16).uint32(message.registrationId);
                    if (message.identityKey != null && $Object.hasOwnProperty.call(message, "identityKey") && message.identityKey.length)
                        writer.uint32(26).bytes(message.identityKey);
                    if (message.tokenHash != null && $Object.hasOwnProperty.call(message, "tokenHash") && message.tokenHash.length)
                        writer.uint32(34).bytes(message.tokenHash);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                NewDevice.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.NewDevice();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.deviceId = value;
                                else
                                    delete message.deviceId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.registrationId = value;
                                else
                                    delete message.registrationId;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.identityKey = value;
                                else
                                    delete message.identityKey;
                                continue;
                            }
                        case 4: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.tokenHash = value;
                                else
                                    delete message.tokenHash;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return NewDevice;
            })();

            v1.RegisterReply = (function() {

                const RegisterReply = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                RegisterReply.prototype.storeId = $util.newBuffer([]);
                RegisterReply.prototype.certificateTrustRoot = $util.newBuffer([]);

                RegisterReply.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.storeId != null && $Object.hasOwnProperty.call(message, "storeId") && message.storeId.length)
                        writer.uint32(10).bytes(message.storeId);
                    if (message.certificateTrustRoot != null && $Object.hasOwnProperty.call(message, "certificateTrustRoot") && message.certificateTrustRoot.length)
                        writer.uint32(18).bytes(message.certificateTrustRoot);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                RegisterReply.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.RegisterReply();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.storeId = value;
                                else
                                    delete message.storeId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.certificateTrustRoot = value;
                                else
                                    delete message.certificateTrustRoot;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return RegisterReply;
            })();

            v1.UpdateDevicesRequest = (function() {

                const UpdateDevicesRequest = function (properties) {
                    this.added = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                UpdateDevicesRequest.prototype.deviceList = $util.newBuffer([]);
                UpdateDevicesRequest.prototype.added = $util.emptyArray;

                UpdateDevicesRequest.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.deviceList != null && $Object.hasOwnProperty.call(message, "deviceList") && message.deviceList.length)
                        writer.uint32(10).bytes(message.deviceList);
                    if (message.added != null && message.added.length)
                        for (let i = 0; i < message.added.length; ++i)
                            $root.murmuration.wire.v1.NewDevice.encode(message.added[i], writer.uint32(18).fork(), _depth + 1).ldelim();
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                UpdateDevicesRequest.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.UpdateDevicesRequest();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.deviceList = value;
                                else
                                    delete message.deviceList;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if (!(message.added && message.added.length))
                                    message.added = [];
                                message.added.push($root.murmuration.wire.v1.NewDevice.decode(reader, reader.size(), $undefined, _depth + 1));
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return UpdateDevicesRequest;
            })();

            v1.DeviceListReply = (function() {

                const DeviceListReply = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                DeviceListReply.prototype.accountIdentityKey = $util.newBuffer([]);
                DeviceListReply.prototype.deviceList = $util.newBuffer([]);

                DeviceListReply.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.accountIdentityKey != null && $Object.hasOwnProperty.call(message, "accountIdentityKey") && message.accountIdentityKey.length)
                        writer.uint32(10).bytes(message.accountIdentityKey);
                    if (message.deviceList != null && $Object.hasOwnProperty.call(message, "deviceList") && message.deviceList.length)
                        writer.uint32(18).bytes(message.deviceList);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                DeviceListReply.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.DeviceListReply();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.accountIdentityKey = value;
                                else
                                    delete message.accountIdentityKey;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.deviceList = value;
                                else
                                    delete message.deviceList;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return DeviceListReply;
            })();

            v1.PreKeyUpload = (function() {

                const PreKeyUpload = function (properties) {
                    this.oneTimePreKeys = [];
                    this.oneTimeKyberPreKeys = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                PreKeyUpload.prototype.uploadId = $util.newBuffer([]);
                PreKeyUpload.prototype.signedPreKey = null;
                PreKeyUpload.prototype.lastResortKyberPreKey = null;
                PreKeyUpload.prototype.oneTimePreKeys = $util.emptyArray;
                PreKeyUpload.prototype.oneTimeKyberPreKeys = $util.emptyArray;
                PreKeyUpload.prototype.replace = false;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(PreKeyUpload.prototype, "_signedPreKey", {
                    get: $util.oneOfGetter($oneOfFields = ["signedPreKey"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(PreKeyUpload.prototype, "_lastResortKyberPreKey", {
                    get: $util.oneOfGetter($oneOfFields = ["lastResortKyberPreKey"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                PreKeyUpload.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.uploadId != null && $Object.hasOwnProperty.call(message, "uploadId") && message.uploadId.length)
                        writer.uint32(10).bytes(message.uploadId);
                    if (message.signedPreKey != null && $Object.hasOwnProperty.call(message, "signedPreKey"))
                        $root.murmuration.wire.v1.SignedPreKey.encode(message.signedPreKey, writer.uint32(18).fork(), _depth + 1).ldelim();
                    if (message.lastResortKyberPreKey != null && $Object.hasOwnProperty.call(message, "lastResortKyberPreKey"))
                        $root.murmuration.wire.v1.KyberPreKey.encode(message.lastResortKyberPreKey, writer.uint32(26).fork(), _depth + 1).ldelim();
                    if (message.oneTimePreKeys != null && message.oneTimePreKeys.length)
                        for (let i = 0; i < message.oneTimePreKeys.length; ++i)
                            $root.murmuration.wire.v1.OneTimePreKey.encode(message.oneTimePreKeys[i], writer.uint32(34).fork(), _depth + 1).ldelim();
                    if (message.oneTimeKyberPreKeys != null && message.oneTimeKyberPreKeys.length)
                        for (let i = 0; i < message.oneTimeKyberPreKeys.length; ++i)
                            $root.murmuration.wire.v1.KyberPreKey.encode(message.oneTimeKyberPreKeys[i], writer.uint32(42).fork(), _depth + 1).ldelim();
                    if (message.replace != null && $Object.hasOwnProperty.call(message, "replace") && message.replace !== false)
                        writer.uint32(48).bool(message.replace);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                PreKeyUpload.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.PreKeyUpload();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.uploadId = value;
                                else
                                    delete message.uploadId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                message.signedPreKey = $root.murmuration.wire.v1.SignedPreKey.decode(reader, reader.size(), $undefined, _depth + 1, message.signedPreKey);
                                message._signedPreKey = "signedPreKey";
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                message.lastResortKyberPreKey = $root.murmuration.wire.v1.KyberPreKey.decode(reader, reader.size(), $undefined, _depth + 1, message.lastResortKyberPreKey);
                                message._lastResortKyberPreKey = "lastResortKyberPreKey";
                                continue;
                            }
                        case 4: {
                                if (wireType !== 2)
                                    break;
                                if (!(message.oneTimePreKeys && message.oneTimePreKeys.length))
                                    message.oneTimePreKeys = [];
                                message.oneTimePreKeys.push($root.murmuration.wire.v1.OneTimePreKey.decode(reader, reader.size(), $undefined, _depth + 1));
                                continue;
                            }
                        case 5: {
                                if (wireType !== 2)
                                    break;
                                if (!(message.oneTimeKyberPreKeys && message.oneTimeKyberPreKeys.length))
                                    message.oneTimeKyberPreKeys = [];
                                message.oneTimeKyberPreKeys.push($root.murmuration.wire.v1.KyberPreKey.decode(reader, reader.size(), $undefined, _depth + 1));
                                continue;
                            }
                        case 6: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.bool())
                                    message.replace = value;
                                else
                                    delete message.replace;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return PreKeyUpload;
            })();

            v1.PreKeyCounts = (function() {

                const PreKeyCounts = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                PreKeyCounts.prototype.oneTimePreKeys = 0;
                PreKeyCounts.prototype.oneTimeKyberPreKeys = 0;

                PreKeyCounts.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.oneTimePreKeys != null && $Object.hasOwnProperty.call(message, "oneTimePreKeys") && message.oneTimePreKeys !== 0)
                        writer.uint32(8).uint32(message.oneTimePreKeys);
                    if (message.oneTimeKyberPreKeys != null && $Object.hasOwnProperty.call(message, "oneTimeKyberPreKeys") && message.oneTimeKyberPreKeys !== 0)
                        writer.uint32(16).uint32(message.oneTimeKyberPreKeys);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                PreKeyCounts.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.PreKeyCounts();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.oneTimePreKeys = value;
                                else
                                    delete message.oneTimePreKeys;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.oneTimeKyberPreKeys = value;
                                else
                                    delete message.oneTimeKyberPreKeys;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return PreKeyCounts;
            })();

            v1.BundleRequest = (function() {

                const BundleRequest = function (properties) {
                    this.deviceIds = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                BundleRequest.prototype.deviceIds = $util.emptyArray;

                BundleRequest.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.deviceIds != null && message.deviceIds.length)
                        writer.uint32(10).uint32s(message.deviceIds);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                BundleRequest.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.BundleRequest();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType === 2) {
                                    if (!(message.deviceIds && message.deviceIds.length))
                                        message.deviceIds = [];
                                    reader.uint32s(message.deviceIds);
                                    continue;
                                }
                                if (wireType !== 0)
                                    break;
                                if (!(message.deviceIds && message.deviceIds.length))
                                    message.deviceIds = [];
                                message.deviceIds.push(reader.uint32());
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return BundleRequest;
            })();

            v1.BundleReply = (function() {

                const BundleReply = function (properties) {
                    this.bundles = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                BundleReply.prototype.accountIdentityKey = $util.newBuffer([]);
                BundleReply.prototype.deviceList = $util.newBuffer([]);
                BundleReply.prototype.bundles = $util.emptyArray;

                BundleReply.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.accountIdentityKey != null && $Object.hasOwnProperty.call(message, "accountIdentityKey") && message.accountIdentityKey.length)
                        writer.uint32(10).bytes(message.accountIdentityKey);
                    if (message.deviceList != null && $Object.hasOwnProperty.call(message, "deviceList") && message.deviceList.length)
                        writer.uint32(18).bytes(message.deviceList);
                    if (message.bundles != null && message.bundles.length)
                        for (let i = 0; i < message.bundles.length; ++i)
                            $root.murmuration.wire.v1.PreKeyBundle.encode(message.bundles[i], writer.uint32(26).fork(), _depth + 1).ldelim();
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                BundleReply.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.BundleReply();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.accountIdentityKey = value;
                                else
                                    delete message.accountIdentityKey;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.deviceList = value;
                                else
                                    delete message.deviceList;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if (!(message.bundles && message.bundles.length))
                                    message.bundles = [];
                                message.bundles.push($root.murmuration.wire.v1.PreKeyBundle.decode(reader, reader.size(), $undefined, _depth + 1));
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return BundleReply;
            })();

            v1.PreKeyBundle = (function() {

                const PreKeyBundle = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                PreKeyBundle.prototype.deviceId = 0;
                PreKeyBundle.prototype.registrationId = 0;
                PreKeyBundle.prototype.identityKey = $util.newBuffer([]);
                PreKeyBundle.prototype.signedPreKey = null;
                PreKeyBundle.prototype.oneTimePreKey = null;
                PreKeyBundle.prototype.kyberPreKey = null;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(PreKeyBundle.prototype, "_oneTimePreKey", {
                    get: $util.oneOfGetter($oneOfFields = ["oneTimePreKey"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                PreKeyBundle.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.deviceId != null && $Object.hasOwnProperty.call(message, "deviceId") && message.deviceId !== 0)
                        writer.uint32(8).uint32(message.deviceId);
                    if (message.registrationId != null && $Object.hasOwnProperty.call(message, "registrationId") && message.registrationId !== 0)
                        writer.uint32(16).uint32(message.registrationId);
                    if (message.identityKey != null && $Object.hasOwnProperty.call(message, "identityKey") && message.identityKey.length)
                        writer.uint32(26).bytes(message.identityKey);
                    if (message.signedPreKey != null && $Object.hasOwnProperty.call(message, "signedPreKey"))
                        $root.murmuration.wire.v1.SignedPreKey.encode(message.signedPreKey, writer.uint32(34).fork(), _depth + 1).ldelim();
                    if (message.oneTimePreKey != null && $Object.hasOwnProperty.call(message, "oneTimePreKey"))
                        $root.murmuration.wire.v1.OneTimePreKey.encode(message.oneTimePreKey, writer.uint32(42).fork(), _depth + 1).ldelim();
                    if (message.kyberPreKey != null && $Object.hasOwnProperty.call(message, "kyberPreKey"))
                        $root.murmuration.wire.v1.KyberPreKey.encode(message.kyberPreKey, writer.uint32(50).fork(), _depth + 1).ldelim();
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                PreKeyBundle.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.PreKeyBundle();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.deviceId = value;
                                else
                                    delete message.deviceId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.registrationId = value;
                                else
                                    delete message.registrationId;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.identityKey = value;
                                else
                                    delete message.identityKey;
                                continue;
                            }
                        case 4: {
                                if (wireType !== 2)
                                    break;
                                message.signedPreKey = $root.murmuration.wire.v1.SignedPreKey.decode(reader, reader.size(), $undefined, _depth + 1, message.signedPreKey);
                                continue;
                            }
                        case 5: {
                                if (wireType !== 2)
                                    break;
                                message.oneTimePreKey = $root.murmuration.wire.v1.OneTimePreKey.decode(reader, reader.size(), $undefined, _depth + 1, message.oneTimePreKey);
                                message._oneTimePreKey = "oneTimePreKey";
                                continue;
                            }
                        case 6: {
                                if (wireType !== 2)
                                    break;
                                message.kyberPreKey = $root.murmuration.wire.v1.KyberPreKey.decode(reader, reader.size(), $undefined, _depth + 1, message.kyberPreKey);
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return PreKeyBundle;
            })();

            v1.CertificateReply = (function() {

                const CertificateReply = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                CertificateReply.prototype.certificate = $util.newBuffer([]);
                CertificateReply.prototype.expiresAtMs = 0;

                CertificateReply.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.certificate != null && $Object.hasOwnProperty.call(message, "certificate") && message.certificate.length)
                        writer.uint32(10).bytes(message.certificate);
                    if (message.expiresAtMs != null && $Object.hasOwnProperty.call(message, "expiresAtMs") && (typeof message.expiresAtMs === "object" ? message.expiresAtMs.low || message.expiresAtMs.high : message.expiresAtMs !== 0))
                        writer.uint32(16).uint64(message.expiresAtMs);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                CertificateReply.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.CertificateReply();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.certificate = value;
                                else
                                    delete message.certificate;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.expiresAtMs = value;
                                else
                                    delete message.expiresAtMs;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return CertificateReply;
            })();

            v1.ProfileUpdate = (function() {

                const ProfileUpdate = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                ProfileUpdate.prototype.accessKey = $util.newBuffer([]);
                ProfileUpdate.prototype.profile = $util.newBuffer([]);

                ProfileUpdate.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.accessKey != null && $Object.hasOwnProperty.call(message, "accessKey") && message.accessKey.length)
                        writer.uint32(10).bytes(message.accessKey);
                    if (message.profile != null && $Object.hasOwnProperty.call(message, "profile") && message.profile.length)
                        writer.uint32(18).bytes(message.profile);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                ProfileUpdate.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.ProfileUpdate();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.accessKey = value;
                                else
                                    delete message.accessKey;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.profile = value;
                                else
                                    delete message.profile;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return ProfileUpdate;
            })();

            v1.ProfileReply = (function() {

                const ProfileReply = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                ProfileReply.prototype.profile = $util.newBuffer([]);

                ProfileReply.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.profile != null && $Object.hasOwnProperty.call(message, "profile") && message.profile.length)
                        writer.uint32(10).bytes(message.profile);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                ProfileReply.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.ProfileReply();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.profile = value;
                                else
                                    delete message.profile;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return ProfileReply;
            })();

            v1.ChallengeReply = (function() {

                const ChallengeReply = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                ChallengeReply.prototype.challenge = $util.newBuffer([]);
                ChallengeReply.prototype.validForMs = 0;

                ChallengeReply.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.challenge != null && $Object.hasOwnProperty.call(message, "challenge") && message.challenge.length)
                        writer.uint32(10).bytes(message.challenge);
                    if (message.validForMs != null && $Object.hasOwnProperty.call(message, "validForMs") && message.validForMs !== 0)
                        writer.uint32(16).uint32(message.validForMs);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                ChallengeReply.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.ChallengeReply();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.challenge = value;
                                else
                                    delete message.challenge;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.validForMs = value;
                                else
                                    delete message.validForMs;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return ChallengeReply;
            })();

            v1.GroupRecord = (function() {

                const GroupRecord = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupRecord.prototype.revision = 0;
                GroupRecord.prototype.blob = $util.newBuffer([]);
                GroupRecord.prototype.migration = null;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(GroupRecord.prototype, "_migration", {
                    get: $util.oneOfGetter($oneOfFields = ["migration"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                GroupRecord.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.revision != null && $Object.hasOwnProperty.call(message, "revision") && (typeof message.revision === "object" ? message.revision.low || message.revision.high : message.revision !== 0))
                        writer.uint32(8).uint64(message.revision);
                    if (message.blob != null && $Object.hasOwnProperty.call(message, "blob") && message.blob.length)
                        writer.uint32(18).bytes(message.blob);
                    if (message.migration != null && $Object.hasOwnProperty.call(message, "migration"))
                        $root.murmuration.wire.v1.GroupMigration.encode(message.migration, writer.uint32(26).fork(), _depth + 1).ldelim();
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupRecord.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupRecord();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.revision = value;
                                else
                                    delete message.revision;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.blob = value;
                                else
                                    delete message.blob;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                message.migration = $root.murmuration.wire.v1.GroupMigration.decode(reader, reader.size(), $undefined, _depth + 1, message.migration);
                                message._migration = "migration";
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupRecord;
            })();

            v1.MigrationState = (function() {
                const valuesById = $Object.create(null), values = $Object.create(valuesById);
                values[valuesById[0] = "MIGRATION_STATE_UNSPECIFIED"] = 0;
                values[valuesById[1] = "MIGRATION_STATE_PAIRWISE"] = 1;
                values[valuesById[2] = "MIGRATION_STATE_PREPARING"] = 2;
                values[valuesById[3] = "MIGRATION_STATE_READY"] = 3;
                values[valuesById[4] = "MIGRATION_STATE_SWITCHING"] = 4;
                values[valuesById[5] = "MIGRATION_STATE_MLS"] = 5;
                values[valuesById[6] = "MIGRATION_STATE_RECOVERING"] = 6;
                return values;
            })();

            v1.GroupMigration = (function() {

                const GroupMigration = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupMigration.prototype.state = 0;
                GroupMigration.prototype.generation = 0;
                GroupMigration.prototype.leaseLeftMs = 0;

                GroupMigration.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.state != null && $Object.hasOwnProperty.call(message, "state") && message.state !== 0)
                        writer.uint32(8).int32(message.state);
                    if (message.generation != null && $Object.hasOwnProperty.call(message, "generation") && message.generation !== 0)
                        writer.uint32(16).uint32(message.generation);
                    if (message.leaseLeftMs != null && $Object.hasOwnProperty.call(message, "leaseLeftMs") && message.leaseLeftMs !== 0)
                        writer.uint32(24).uint32(message.leaseLeftMs);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupMigration.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupMigration();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.int32())
                                    message.state = value;
                                else
                                    delete message.state;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.generation = value;
                                else
                                    delete message.generation;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.leaseLeftMs = value;
                                else
                                    delete message.leaseLeftMs;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupMigration;
            })();

            v1.GroupMigrationStep = (function() {

                const GroupMigrationStep = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupMigrationStep.prototype.state = 0;
                GroupMigrationStep.prototype.generation = 0;
                GroupMigrationStep.prototype.leaseToken = null;
                GroupMigrationStep.prototype.newLeaseToken = null;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(GroupMigrationStep.prototype, "_leaseToken", {
                    get: $util.oneOfGetter($oneOfFields = ["leaseToken"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(GroupMigrationStep.prototype, "_newLeaseToken", {
                    get: $util.oneOfGetter($oneOfFields = ["newLeaseToken"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                GroupMigrationStep.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.state != null && $Object.hasOwnProperty.call(message, "state") && message.state !== 0)
                        writer.uint32(8).int32(message.state);
                    if (message.generation != null && $Object.hasOwnProperty.call(message, "generation") && message.generation !== 0)
                        writer.uint32(16).uint32(message.generation);
                    if (message.leaseToken != null && $Object.hasOwnProperty.call(message, "leaseToken"))
                        writer.uint32(26).bytes(message.leaseToken);
                    if (message.newLeaseToken != null && $Object.hasOwnProperty.call(message, "newLeaseToken"))
                        writer.uint32(34).bytes(message.newLeaseToken);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupMigrationStep.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupMigrationStep();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.int32())
                                    message.state = value;
                                else
                                    delete message.state;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.generation = value;
                                else
                                    delete message.generation;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                message.leaseToken = reader.bytes();
                                message._leaseToken = "leaseToken";
                                continue;
                            }
                        case 4: {
                                if (wireType !== 2)
                                    break;
                                message.newLeaseToken = reader.bytes();
                                message._newLeaseToken = "newLeaseToken";
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupMigrationStep;
            })();

            v1.GroupWriteRequest = (function() {

                const GroupWriteRequest = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupWriteRequest.prototype.expectedRevision = 0;
                GroupWriteRequest.prototype.blob = $util.newBuffer([]);
                GroupWriteRequest.prototype.generation = null;
                GroupWriteRequest.prototype.migration = null;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(GroupWriteRequest.prototype, "_generation", {
                    get: $util.oneOfGetter($oneOfFields = ["generation"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(GroupWriteRequest.prototype, "_migration", {
                    get: $util.oneOfGetter($oneOfFields = ["migration"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                GroupWriteRequest.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.expectedRevision != null && $Object.hasOwnProperty.call(message, "expectedRevision") && (typeof message.expectedRevision === "object" ? message.expectedRevision.low || message.expectedRevision.high : message.expectedRevision !== 0))
                        writer.uint32(8).uint64(message.expectedRevision);
                    if (message.blob != null && $Object.hasOwnProperty.call(message, "blob") && message.blob.length)
                        writer.uint32(18).bytes(message.blob);
                    if (message.generation != null && $Object.hasOwnProperty.call(message, "generation"))
                        $root.murmuration.wire.v1.GroupGeneration.encode(message.generation, writer.uint32(26).fork(), _depth + 1).ldelim();
                    if (message.migration != null && $Object.hasOwnProperty.call(message, "migration"))
                        $root.murmuration.wire.v1.GroupMigrationStep.encode(message.migration, writer.uint32(34).fork(), _depth + 1).ldelim();
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupWriteRequest.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupWriteRequest();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.expectedRevision = value;
                                else
                                    delete message.expectedRevision;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.blob = value;
                                else
                                    delete message.blob;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                message.generation = $root.murmuration.wire.v1.GroupGeneration.decode(reader, reader.size(), $undefined, _depth + 1, message.generation);
                                message._generation = "generation";
                                continue;
                            }
                        case 4: {
                                if (wireType !== 2)
                                    break;
                                message.migration = $root.murmuration.wire.v1.GroupMigrationStep.decode(reader, reader.size(), $undefined, _depth + 1, message.migration);
                                message._migration = "migration";
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupWriteRequest;
            })();

            v1.GroupGeneration = (function() {

                const GroupGeneration = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupGeneration.prototype.accessPublicKey = $util.newBuffer([]);
                GroupGeneration.prototype.fence = $util.newBuffer([]);

                GroupGeneration.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.accessPublicKey != null && $Object.hasOwnProperty.call(message, "accessPublicKey") && message.accessPublicKey.length)
                        writer.uint32(10).bytes(message.accessPublicKey);
                    if (message.fence != null && $Object.hasOwnProperty.call(message, "fence") && message.fence.length)
                        writer.uint32(18).bytes(message.fence);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupGeneration.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupGeneration();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.accessPublicKey = value;
                                else
                                    delete message.accessPublicKey;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.fence = value;
                                else
                                    delete message.fence;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupGeneration;
            })();

            v1.GroupWriteReply = (function() {

                const GroupWriteReply = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupWriteReply.prototype.revision = 0;
                GroupWriteReply.prototype.leaseLeftMs = null;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(GroupWriteReply.prototype, "_leaseLeftMs", {
                    get: $util.oneOfGetter($oneOfFields = ["leaseLeftMs"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                GroupWriteReply.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.revision != null && $Object.hasOwnProperty.call(message, "revision") && (typeof message.revision === "object" ? message.revision.low || message.revision.high : message.revision !== 0))
                        writer.uint32(8).uint64(message.revision);
                    if (message.leaseLeftMs != null && $Object.hasOwnProperty.call(message, "leaseLeftMs"))
                        writer.uint32(16).uint32(message.leaseLeftMs);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupWriteReply.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupWriteReply();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (typeof (value = reader.uint64()) === "object" ? value.low || value.high : value !== 0)
                                    message.revision = value;
                                else
                                    delete message.revision;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                message.leaseLeftMs = reader.uint32();
                                message._leaseLeftMs = "leaseLeftMs";
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupWriteReply;
            })();

            v1.GroupLeaseRenewal = (function() {

                const GroupLeaseRenewal = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupLeaseRenewal.prototype.generation = 0;
                GroupLeaseRenewal.prototype.leaseToken = $util.newBuffer([]);

                GroupLeaseRenewal.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.generation != null && $Object.hasOwnProperty.call(message, "generation") && message.generation !== 0)
                        writer.uint32(8).uint32(message.generation);
                    if (message.leaseToken != null && $Object.hasOwnProperty.call(message, "leaseToken") && message.leaseToken.length)
                        writer.uint32(18).bytes(message.leaseToken);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupLeaseRenewal.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupLeaseRenewal();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.generation = value;
                                else
                                    delete message.generation;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.leaseToken = value;
                                else
                                    delete message.leaseToken;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupLeaseRenewal;
            })();

            v1.GroupLeaseReply = (function() {

                const GroupLeaseReply = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                GroupLeaseReply.prototype.leaseLeftMs = 0;

                GroupLeaseReply.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.leaseLeftMs != null && $Object.hasOwnProperty.call(message, "leaseLeftMs") && message.leaseLeftMs !== 0)
                        writer.uint32(8).uint32(message.leaseLeftMs);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                GroupLeaseReply.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.GroupLeaseReply();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.leaseLeftMs = value;
                                else
                                    delete message.leaseLeftMs;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return GroupLeaseReply;
            })();

            v1.KeyPackageUpload = (function() {

                const KeyPackageUpload = function (properties) {
                    this.keyPackages = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                KeyPackageUpload.prototype.uploadId = $util.newBuffer([]);
                KeyPackageUpload.prototype.keyPackages = $util.emptyArray;
                KeyPackageUpload.prototype.lastResort = null;
                KeyPackageUpload.prototype.replace = false;

                let $oneOfFields;

                // Virtual OneOf for proto3 optional field
                $Object.defineProperty(KeyPackageUpload.prototype, "_lastResort", {
                    get: $util.oneOfGetter($oneOfFields = ["lastResort"]),
                    set: $util.oneOfSetter($oneOfFields)
                });

                KeyPackageUpload.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.uploadId != null && $Object.hasOwnProperty.call(message, "uploadId") && message.uploadId.length)
                        writer.uint32(10).bytes(message.uploadId);
                    if (message.keyPackages != null && message.keyPackages.length)
                        for (let i = 0; i < message.keyPackages.length; ++i)
                            writer.uint32(18).bytes(message.keyPackages[i]);
                    if (message.lastResort != null && $Object.hasOwnProperty.call(message, "lastResort"))
                        writer.uint32(26).bytes(message.lastResort);
                    if (message.replace != null && $Object.hasOwnProperty.call(message, "replace") && message.replace !== false)
                        writer.uint32(32).bool(message.replace);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                KeyPackageUpload.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.KeyPackageUpload();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.uploadId = value;
                                else
                                    delete message.uploadId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if (!(message.keyPackages && message.keyPackages.length))
                                    message.keyPackages = [];
                                message.keyPackages.push(reader.bytes());
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                message.lastResort = reader.bytes();
                                message._lastResort = "lastResort";
                                continue;
                            }
                        case 4: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.bool())
                                    message.replace = value;
                                else
                                    delete message.replace;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return KeyPackageUpload;
            })();

            v1.KeyPackageCounts = (function() {

                const KeyPackageCounts = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                KeyPackageCounts.prototype.keyPackages = 0;
                KeyPackageCounts.prototype.lastResort = false;

                KeyPackageCounts.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.keyPackages != null && $Object.hasOwnProperty.call(message, "keyPackages") && message.keyPackages !== 0)
                        writer.uint32(8).uint32(message.keyPackages);
                    if (message.lastResort != null && $Object.hasOwnProperty.call(message, "lastResort") && message.lastResort !== false)
                        writer.uint32(16).bool(message.lastResort);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                KeyPackageCounts.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.KeyPackageCounts();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.keyPackages = value;
                                else
                                    delete message.keyPackages;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.bool())
                                    message.lastResort = value;
                                else
                                    delete message.lastResort;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return KeyPackageCounts;
            })();

            v1.KeyPackageClaimRequest = (function() {

                const KeyPackageClaimRequest = function (properties) {
                    this.accountIds = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                KeyPackageClaimRequest.prototype.accountIds = $util.emptyArray;

                KeyPackageClaimRequest.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.accountIds != null && message.accountIds.length)
                        for (let i = 0; i < message.accountIds.length; ++i)
                            writer.uint32(10).bytes(message.accountIds[i]);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                KeyPackageClaimRequest.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.KeyPackageClaimRequest();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if (!(message.accountIds && message.accountIds.length))
                                    message.accountIds = [];
                                message.accountIds.push(reader.bytes());
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return KeyPackageClaimRequest;
            })();

            v1.KeyPackageClaimReply = (function() {

                const KeyPackageClaimReply = function (properties) {
                    this.accounts = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                KeyPackageClaimReply.prototype.accounts = $util.emptyArray;

                KeyPackageClaimReply.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.accounts != null && message.accounts.length)
                        for (let i = 0; i < message.accounts.length; ++i)
                            $root.murmuration.wire.v1.ClaimedAccount.encode(message.accounts[i], writer.uint32(10).fork(), _depth + 1).ldelim();
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                KeyPackageClaimReply.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.KeyPackageClaimReply();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if (!(message.accounts && message.accounts.length))
                                    message.accounts = [];
                                message.accounts.push($root.murmuration.wire.v1.ClaimedAccount.decode(reader, reader.size(), $undefined, _depth + 1));
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return KeyPackageClaimReply;
            })();

            v1.ClaimedAccount = (function() {

                const ClaimedAccount = function (properties) {
                    this.keyPackages = [];
                    this.devicesWithout = [];
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                ClaimedAccount.prototype.accountId = $util.newBuffer([]);
                ClaimedAccount.prototype.unknownAccount = false;
                ClaimedAccount.prototype.keyPackages = $util.emptyArray;
                ClaimedAccount.prototype.devicesWithout = $util.emptyArray;

                ClaimedAccount.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.accountId != null && $Object.hasOwnProperty.call(message, "accountId") && message.accountId.length)
                        writer.uint32(10).bytes(message.accountId);
                    if (message.unknownAccount != null && $Object.hasOwnProperty.call(message, "unknownAccount") && message.unknownAccount !== false)
                        writer.uint32(16).bool(message.unknownAccount);
                    if (message.keyPackages != null && message.keyPackages.length)
                        for (let i = 0; i < message.keyPackages.length; ++i)
                            $root.murmuration.wire.v1.ClaimedKeyPackage.encode(message.keyPackages[i], writer.uint32(26).fork(), _depth + 1).ldelim();
                    if (message.devicesWithout != null && message.devicesWithout.length)
                        writer.uint32(34).uint32s(message.devicesWithout);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                ClaimedAccount.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.ClaimedAccount();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.accountId = value;
                                else
                                    delete message.accountId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.bool())
                                    message.unknownAccount = value;
                                else
                                    delete message.unknownAccount;
                                continue;
                            }
                        case 3: {
                                if (wireType !== 2)
                                    break;
                                if (!(message.keyPackages && message.keyPackages.length))
                                    message.keyPackages = [];
                                message.keyPackages.push($root.murmuration.wire.v1.ClaimedKeyPackage.decode(reader, reader.size(), $undefined, _depth + 1));
                                continue;
                            }
                        case 4: {
                                if (wireType === 2) {
                                    if (!(message.devicesWithout && message.devicesWithout.length))
                                        message.devicesWithout = [];
                                    reader.uint32s(message.devicesWithout);
                                    continue;
                                }
                                if (wireType !== 0)
                                    break;
                                if (!(message.devicesWithout && message.devicesWithout.length))
                                    message.devicesWithout = [];
                                message.devicesWithout.push(reader.uint32());
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return ClaimedAccount;
            })();

            v1.ClaimedKeyPackage = (function() {

                const ClaimedKeyPackage = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                ClaimedKeyPackage.prototype.deviceId = 0;
                ClaimedKeyPackage.prototype.keyPackage = $util.newBuffer([]);

                ClaimedKeyPackage.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.deviceId != null && $Object.hasOwnProperty.call(message, "deviceId") && message.deviceId !== 0)
                        writer.uint32(8).uint32(message.deviceId);
                    if (message.keyPackage != null && $Object.hasOwnProperty.call(message, "keyPackage") && message.keyPackage.length)
                        writer.uint32(18).bytes(message.keyPackage);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                ClaimedKeyPackage.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.ClaimedKeyPackage();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 0)
                                    break;
                                if (value = reader.uint32())
                                    message.deviceId = value;
                                else
                                    delete message.deviceId;
                                continue;
                            }
                        case 2: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.keyPackage = value;
                                else
                                    delete message.keyPackage;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return ClaimedKeyPackage;
            })();

            v1.PushHandleUpload = (function() {

                const PushHandleUpload = function (properties) {
                    if (properties)
                        for (let keys = $Object.keys(properties), i = 0; i < keys.length; ++i)
                            if (properties[keys[i]] != null && keys[i] !== "__proto__")
                                this[keys[i]] = properties[keys[i]];
                };

                PushHandleUpload.prototype.handle = $util.newBuffer([]);

                PushHandleUpload.encode = function (message, writer, _depth) {
                    if (!writer)
                        writer = $Writer.create();
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $util.recursionLimit)
                        throw $Error("max depth exceeded");
                    if (message.handle != null && $Object.hasOwnProperty.call(message, "handle") && message.handle.length)
                        writer.uint32(10).bytes(message.handle);
                    if (message.$unknowns != null && $Object.hasOwnProperty.call(message, "$unknowns"))
                        for (let i = 0; i < message.$unknowns.length; ++i)
                            writer.raw(message.$unknowns[i]);
                    return writer;
                };

                PushHandleUpload.decode = function (reader, length, _end, _depth, _target) {
                    if (!(reader instanceof $Reader))
                        reader = $Reader.create(reader);
                    if (_depth === $undefined)
                        _depth = 0;
                    if (_depth > $Reader.recursionLimit)
                        throw $Error("max depth exceeded");
                    let end, message, value;
                    if (length === $undefined)
                        end = reader.len;
                    else {
                        end = reader.pos + length;
                        if (end > reader.len)
                            throw $RangeError("index out of range");
                        length = reader.len;
                        reader.len = end;
                    }
                    message = _target || new $root.murmuration.wire.v1.PushHandleUpload();
                    while (reader.pos < end) {
                        let start = reader.pos;
                        let tag = reader.tag();
                        if (tag === _end) {
                            _end = $undefined;
                            break;
                        }
                        let wireType = tag & 7;
                        switch (tag >>>= 3) {
                        case 1: {
                                if (wireType !== 2)
                                    break;
                                if ((value = reader.bytes()).length)
                                    message.handle = value;
                                else
                                    delete message.handle;
                                continue;
                            }
                        }
                        reader.skipType(wireType, _depth, tag);
                        if (!reader.discardUnknown) {
                            $util.makeProp(message, "$unknowns", false);
                            (message.$unknowns || (message.$unknowns = [])).push(reader.raw(start, reader.pos));
                        }
                    }
                    if (length !== $undefined) {
                        if (reader.pos !== end)
                            throw $RangeError("index out of range");
                        reader.len = length;
                    }
                    if (_end !== $undefined)
                        throw $Error("missing end group");
                    return message;
                };

                return PushHandleUpload;
            })();

            return v1;
        })();

        return wire;
    })();

    return murmuration;
})();

export {
  $root as default
};
