export { h, render, Fragment, createRef } from 'preact';
export { useEffect, useLayoutEffect, useRef, useState, useMemo, useCallback } from 'preact/hooks';
export { signal, computed, effect, batch, useSignal, useComputed, useSignalEffect, type Signal } from '@preact/signals';
export function html(strings: TemplateStringsArray, ...values: unknown[]): any;
